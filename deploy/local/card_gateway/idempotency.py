"""Requests that are repeated with one key: https://docs.stripe.com/api/idempotent_requests."""

import hashlib
from typing import Any

import orjson

from deploy.local.card_gateway.call import Call
from deploy.local.card_gateway.errors import StripeError

LONGEST_KEY = 255
SECONDS_STORED = 86_400


def fingerprint(method: str, path: str, fields: dict[str, Any]) -> str:
    """Return what is equal for requests that are the same."""
    text = orjson.dumps([method, path, fields], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()


def find_response(call: Call, request: str) -> tuple[int, bytes] | None:
    """Return the stored response of a key; raises StripeError if the request was another."""
    key = call.idempotency_key
    if key is None:
        return None
    if not 0 < len(key) <= LONGEST_KEY:
        message = f"Idempotency keys have 1 to {LONGEST_KEY} characters."
        raise StripeError(400, message, kind="idempotency_error")
    row = call.store.connection.execute(
        "SELECT fingerprint, status, body FROM responses WHERE book = ? AND key = ?"
        " AND created > ?",
        (call.book, key, call.now - SECONDS_STORED),
    ).fetchone()
    if row is None:
        return None
    if row[0] != request:
        message = (
            "Keys for idempotent requests can only be used for the same endpoint and with the same "
            f"parameters they were first used with. Try using a key other than '{key}' if you "
            "meant to execute a different request."
        )
        raise StripeError(400, message, kind="idempotency_error")
    return int(row[1]), bytes(row[2])


def store_response(call: Call, request: str, status: int, body: bytes) -> None:
    """Store the response of a key for a day; without a key nothing is stored."""
    if call.idempotency_key is None:
        return
    execute = call.store.connection.execute
    execute("DELETE FROM responses WHERE created <= ?", (call.now - SECONDS_STORED,))
    execute(
        "INSERT OR REPLACE INTO responses (book, key, fingerprint, status, body, created)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (call.book, call.idempotency_key, request, status, body, call.now),
    )
