"""Webhook endpoints and events: https://docs.stripe.com/api/webhook_endpoints.

An endpoint of the platform receives the events of the platform's own books. One that was created
with `connect` receives those of the connected accounts, with the account's id in `account`.
"""

import hashlib
import hmac

from pydantic import Field

from deploy.local.card_gateway.call import PLATFORM, Call, new_id
from deploy.local.card_gateway.errors import StripeError
from deploy.local.card_gateway.parameters import (
    ListParameters,
    Metadata,
    MetadataChange,
    Parameters,
    changed_metadata,
)
from deploy.local.card_gateway.store import Resource


class EndpointCreate(Parameters):
    """POST /v1/webhook_endpoints."""

    connect: bool = False
    description: str | None = None
    enabled_events: list[str] = Field(min_length=1)
    metadata: Metadata = Field(default_factory=dict)
    url: str = Field(pattern="^https?://")


class EndpointUpdate(Parameters):
    """POST /v1/webhook_endpoints/{id}."""

    description: str | None = None
    disabled: bool | None = None
    enabled_events: list[str] | None = None
    metadata: MetadataChange | None = None
    url: str | None = Field(default=None, pattern="^https?://")


class EndpointList(ListParameters):
    """GET /v1/webhook_endpoints."""


class EventList(ListParameters):
    """GET /v1/events."""

    type: str | None = None
    types: list[str] | None = None


def signature(secret: str, moment: int, body: bytes) -> str:
    """Return the header `Stripe-Signature`: https://docs.stripe.com/webhooks#verify-manually."""
    signed = hmac.new(secret.encode(), b"%d." % moment + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={signed}"


def create(call: Call, body: EndpointCreate, _: str) -> Resource:
    """Create an endpoint; its secret is in this response alone."""
    _require_platform(call)
    secret = f"whsec_{new_id('local')}"
    endpoint = call.create("we", "webhook_endpoint", _fields(body, secret))
    return endpoint | {"secret": secret}


def _fields(body: EndpointCreate, secret: str) -> Resource:
    return {
        **body.model_dump(exclude={"connect", "expand"}),
        "api_version": None,
        "application": None,
        "status": "enabled",
        "_connect": body.connect,
        "_secret": secret,
    }


def register(call: Call, identifier: str, body: EndpointCreate, secret: str) -> None:
    """Store an endpoint with a known id and secret, or replace it."""
    endpoint = {
        "id": identifier,
        "object": "webhook_endpoint",
        "created": call.now,
        "livemode": False,
        **_fields(body, secret),
    }
    call.store.delete(identifier)
    call.store.insert(PLATFORM, endpoint)


def _require_platform(call: Call) -> None:
    if not call.is_platform:
        raise StripeError(403, "An account of a platform cannot have webhook endpoints here.")


def retrieve(call: Call, _: Parameters, identifier: str) -> Resource:
    """Return an endpoint."""
    return call.get("webhook_endpoint", identifier)


def update(call: Call, body: EndpointUpdate, identifier: str) -> Resource:
    """Change an endpoint."""
    endpoint = call.get("webhook_endpoint", identifier)
    changes = body.model_dump(include={"description", "enabled_events", "url"}, exclude_none=True)
    if body.disabled is not None:
        changes["status"] = "disabled" if body.disabled else "enabled"
    changes["metadata"] = changed_metadata(endpoint["metadata"], body.metadata)
    return call.save(endpoint, **changes)


def delete(call: Call, _: Parameters, identifier: str) -> Resource:
    """Delete an endpoint; what was not delivered to it never is."""
    call.get("webhook_endpoint", identifier)
    call.store.delete(identifier)
    return {"id": identifier, "object": "webhook_endpoint", "deleted": True}


def list_all(call: Call, body: EndpointList, _: str) -> Resource:
    """List endpoints."""
    return call.page("webhook_endpoint", "/v1/webhook_endpoints", body.query())


def retrieve_event(call: Call, _: Parameters, identifier: str) -> Resource:
    """Return an event."""
    return with_pending(call, call.get("event", identifier))


def list_events(call: Call, body: EventList, _: str) -> Resource:
    """List events."""
    query = body.query(tuple(body.types or ()))
    page = call.page("event", "/v1/events", query, type=body.type)
    return page | {"data": [with_pending(call, event) for event in page["data"]]}


def with_pending(call: Call, event: Resource) -> Resource:
    """Return an event with the number of endpoints that have not accepted it yet."""
    query = "SELECT count(*) FROM deliveries WHERE event = ?"
    [count] = call.store.connection.execute(query, (event["id"],)).fetchone()
    return event | {"pending_webhooks": count}
