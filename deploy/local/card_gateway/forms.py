"""Form-encoded bodies and queries as https://docs.stripe.com/api writes them: `card[number]=…`."""

import re
from typing import Any
from urllib.parse import parse_qsl

from deploy.local.card_gateway.errors import invalid

_PARTS = re.compile(r"[^\[\]]+|\[\]")


def parse_form(text: str) -> dict[str, Any]:
    """Return the nested fields of a form; raises StripeError for a name used in two ways."""
    fields: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        _put(fields, name, value)
    return {name: _with_lists(value) for name, value in fields.items()}


def _put(fields: dict[str, Any], name: str, value: str) -> None:
    parts = _PARTS.findall(name) or [name]
    node = fields
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise invalid("Invalid hash", name)
    last = str(len(node)) if parts[-1] == "[]" else parts[-1]
    node[last] = value


def _with_lists(value: Any) -> Any:
    """Return fields in which what is numbered by 0, 1, … is a list."""
    if not isinstance(value, dict):
        return value
    fields = {name: _with_lists(each) for name, each in value.items()}
    if fields and all(name.isdigit() for name in fields):
        return [fields[name] for name in sorted(fields, key=int)]
    return fields
