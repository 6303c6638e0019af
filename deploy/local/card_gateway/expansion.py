"""Expanded fields of responses: https://docs.stripe.com/api/expanding_objects."""

from collections.abc import Iterable
from typing import Any

from deploy.local.card_gateway.call import PLATFORM, Call
from deploy.local.card_gateway.errors import invalid
from deploy.local.card_gateway.store import PageQuery, Resource

_DEPTH = 4


def expanded(call: Call, body: Resource, paths: Iterable[str]) -> Resource:
    """Return a body whose ids at `paths` are objects; raises StripeError for a wrong path."""
    for path in paths:
        parts = path.split(".")
        if len(parts) > _DEPTH:
            raise invalid(f"You cannot expand more than {_DEPTH} levels of a property.", "expand")
        if parts[0] == "data" and body.get("object") == "list":
            for item in body["data"]:
                _expand(call, item, parts[1:], path)
        else:
            _expand(call, body, parts, path)
    return body


def _expand(call: Call, item: Any, parts: list[str], path: str) -> None:
    if not parts or not isinstance(item, dict):
        return
    name, *rest = parts
    if name == "refunds" and item.get("object") == "charge":
        item.setdefault("refunds", _refunds_of(call, item))
    if name not in item or name.startswith("_"):
        raise invalid(f"This property cannot be expanded ({path}).", "expand")
    if isinstance(item[name], str):
        book = PLATFORM if name == "application_fee" else call.book
        resource = call.store.find(book, None, item[name])
        if resource is None:
            raise invalid(f"This property cannot be expanded ({path}).", "expand")
        item[name] = resource
    _expand(call, item[name], rest, path)


def _refunds_of(call: Call, charge: Resource) -> Resource:
    url = f"/v1/charges/{charge['id']}/refunds"
    return call.page("refund", url, PageQuery(), charge=charge["id"])
