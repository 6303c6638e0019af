"""Every measurement, in the order in which `make bench` takes them."""

from deploy.bench.events import EVENTS
from deploy.bench.gateway import GATEWAY
from deploy.bench.lag import LAG
from deploy.bench.protocol import Measurement
from deploy.bench.purchases import PURCHASES
from deploy.bench.service import SERVICE
from deploy.bench.size import SIZE
from deploy.bench.soak import SOAK
from deploy.bench.upgrade import UPGRADE

MEASUREMENTS: dict[str, Measurement] = {
    each.name: each for each in (GATEWAY, SERVICE, PURCHASES, LAG, EVENTS, SIZE, UPGRADE, SOAK)
}
