"""Events like those of a purchase, generated from the published shapes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from uuid_utils import uuid7

from deploy.checks.event_shapes.examples import full
from deploy.checks.event_shapes.files import read_shapes
from deploy.local.system import CHECKOUT

KINDS = (
    "vouchers.voucher.purchased.v1",
    "payments.payment.created.v1",
    "payments.payment.processing.v1",
    "payments.invoice.issued.v1",
    "payments.payment.succeeded.v1",
    "vouchers.voucher.activated.v1",
)
# Consecutive purchases belong to different organizations, as in a system with some tenants.
ORGANIZATIONS = 20


def sample_events(number: int, *, service: str = "") -> list[dict[str, Any]]:
    """Return `number` events, purchase after purchase, each with its own id.

    With `service`, return only events that this service's relay may publish.
    """
    shapes = read_shapes(CHECKOUT)
    examples = [full(shapes[kind]) for kind in KINDS if kind.startswith(service)]
    return list(islice(_endless(examples), number))


def _endless(examples: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    purchase = 0
    while True:
        purchase += 1
        moment = datetime.now(UTC).isoformat()
        for example in examples:
            data = {
                **example["data"],
                "entity_id": purchase,
                "organization_id": purchase % ORGANIZATIONS + 1,
                "correlation_id": f"purchase-{purchase}",
            }
            yield {**example, "id": str(uuid7()), "time": moment, "data": data}
