"""The AsyncAPI 3.0 document of events, and the route that serves the one of a service.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter

from shared.bus import EXCHANGE
from shared.shapes import Schema
from shared.version import VERSION

Document = dict[str, Any]

_CONTENT_TYPE = "application/cloudevents+json"
_EXCHANGE = {"name": EXCHANGE, "type": "topic", "durable": True, "autoDelete": False}


def document(
    title: str,
    version: str,
    shapes: Mapping[str, Schema],
    *,
    readers: Mapping[str, Sequence[str]] | None = None,
    examples: Mapping[str, Sequence[Any]] | None = None,
) -> Document:
    """Return the AsyncAPI document of event types: each has a channel, a message, an operation.

    A channel's address is the routing key. `readers` are the queues that each type is bound to
    (`x-queues`), `examples` are whole envelopes, by type.
    """
    readers, examples = readers or {}, examples or {}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version},
        "defaultContentType": _CONTENT_TYPE,
        "channels": {kind: _channel(kind, readers.get(kind, ())) for kind in sorted(shapes)},
        "operations": {
            f"publish.{kind}": {"action": "send", "channel": {"$ref": f"#/channels/{kind}"}}
            for kind in sorted(shapes)
        },
        "components": {
            "messages": {
                kind: _message(kind, shapes[kind], examples.get(kind, ()))
                for kind in sorted(shapes)
            }
        },
    }


def _channel(kind: str, queues: Sequence[str]) -> Document:
    channel: Document = {
        "address": kind,
        "messages": {"event": {"$ref": f"#/components/messages/{kind}"}},
        "bindings": {"amqp": {"is": "routingKey", "exchange": _EXCHANGE}},
    }
    return channel | ({"x-queues": list(queues)} if queues else {})


def _message(kind: str, shape: Schema, examples: Sequence[Any]) -> Document:
    # Every AsyncAPI tool must support draft 7, and our shapes use nothing that is newer.
    payload = {name: value for name, value in shape.items() if name not in ("$schema", "$id")}
    message: Document = {
        "name": kind,
        "contentType": _CONTENT_TYPE,
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-07",
            "schema": payload,
        },
    }
    if examples:
        message["examples"] = [{"payload": example} for example in examples]
    return message


def asyncapi_router(shapes: Mapping[str, Schema], title: str) -> APIRouter:
    """Return /asyncapi.json: the events of these shapes. The gateway does not route it."""
    router = APIRouter(include_in_schema=False)

    @router.get("/asyncapi.json")
    async def asyncapi() -> Document:
        return document(title, VERSION, shapes)

    return router
