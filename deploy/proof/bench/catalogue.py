"""All measurements, in the order in which `make bench` runs them."""

from deploy.proof.bench.bookings import BOOKINGS_MEASURED
from deploy.proof.bench.events import EVENTS
from deploy.proof.bench.gateway import GATEWAY
from deploy.proof.bench.lag import LAG
from deploy.proof.bench.protocol import Measurement
from deploy.proof.bench.purchases import PURCHASES
from deploy.proof.bench.service import SERVICE
from deploy.proof.bench.size import SIZE
from deploy.proof.bench.soak import SOAK
from deploy.proof.bench.upgrade import UPGRADE

MEASUREMENTS: dict[str, Measurement] = {
    each.name: each
    for each in (GATEWAY, SERVICE, PURCHASES, LAG, EVENTS, SIZE, BOOKINGS_MEASURED, UPGRADE, SOAK)
}
