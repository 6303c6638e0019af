"""Every measurement, in the order in which `make bench` takes them."""

from deploy.bench.gateway import GATEWAY
from deploy.bench.protocol import Measurement

MEASUREMENTS: dict[str, Measurement] = {each.name: each for each in (GATEWAY,)}
