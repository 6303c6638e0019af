"""What schemathesis does to each request before it is sent; its settings name this module.

A small id that it made up becomes the id of an object that is there: so the requests reach more
than "not found", and nothing of another test's in the same system is touched. CARNET_SCHEMA_IDS
holds the ids by the names of parameters and fields, as JSON.

An integer is sent without a fraction. For JSON Schema `1.0` is an integer too, and no keyword says
otherwise, but Carnet refuses it, as the document's description says.
"""

import json
import os
from itertools import count
from typing import Any

import schemathesis
from schemathesis import Case, HookContext
from schemathesis.generation.meta import CoverageScenario

_KEY = "Idempotency-Key"
_SMALL = 1_000_000
_EXACT = 2**53  # up to here a float holds every integer
_known: dict[str, Any] = json.loads(os.environ["CARNET_SCHEMA_IDS"])
_requests = count(1)


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Use known ids, and each key once: a key's second request would get the first one's answer."""
    for values in (case.path_parameters, case.query, case.body):
        if isinstance(values, dict):
            values.update(_replaced(values))
    if isinstance(case.body, dict):
        case.body.update(_without_zero_fractions(case.body))
    key = case.headers.get(_KEY)
    if isinstance(key, str) and _is_accepted(key) and not _lacks_a_header(case):
        case.headers[_KEY] = f"{key}-{os.getpid()}-{next(_requests)}"


def _is_accepted(key: str) -> bool:
    return key.isascii() and key.isprintable() and 0 < len(key) <= 200


def _lacks_a_header(case: Case[Any]) -> bool:
    """Return whether a header is omitted on purpose: after an edit schemathesis adds it again."""
    described = case.meta.phase.data if case.meta else None
    return getattr(described, "scenario", None) == CoverageScenario.MISSING_PARAMETER


def _replaced(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _known[name]
        for name, value in values.items()
        if name in _known and _is_small_id(value)
    }


def _is_small_id(value: object) -> bool:
    text = str(value)
    return text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= _SMALL


def _without_zero_fractions(value: Any) -> Any:
    """Return the value with each float that is a whole number as an int: equal in JSON Schema."""
    match value:
        case float() if value.is_integer() and abs(value) <= _EXACT:
            return int(value)
        case dict():
            return {name: _without_zero_fractions(part) for name, part in value.items()}
        case list():
            return [_without_zero_fractions(part) for part in value]
        case _:
            return value
