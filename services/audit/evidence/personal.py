"""Personal data in audit rows: the row holds a commitment, the value is stored apart.

See docs/decisions for the scheme. A name, e-mail address, telephone number or postal address of a
user, and a text about a client's voucher, is replaced in `old_values` and `new_values` by
`{"$personal": "<commitment>"}`, the SHA-256 of a random salt and the canonical value. The chain
covers the commitment, so the value and the salt can be erased, and without the salt the value
cannot be guessed from the commitment.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from services.audit.evidence.canonical import NESTED, canonical

MARK = "$personal"
ERASED = "[erased]"
SALT_BYTES = 16

FIELDS = frozenset({"name", "email", "phone", "address"})
USER_ENTITIES = frozenset({"user", "dependant"})
"""The entities that are users, or clients without an account."""

USER_NAMES = frozenset({"user", "buyer", "client", "owner", "payer", "therapist"})
"""An object under one of these names, or an entity of USER_ENTITIES itself, describes a user; so
does a column such as `client_name`."""

TEXTS = frozenset({"notes", "reason", "override_reason"})
"""Texts about a client's voucher, refund or reservation, if the event names the client."""

_OF_A_CLIENT = frozenset({"voucher", "refund", "reservation"})
_OWNERS = {name: name for name in USER_NAMES} | {
    f"{name}_{field}": name for name in USER_NAMES for field in FIELDS
}
_OF_EVERY_ENTITY = frozenset({*_OWNERS, MARK})
_NAMES = {
    **dict.fromkeys(USER_ENTITIES, _OF_EVERY_ENTITY | FIELDS),
    **dict.fromkeys(_OF_A_CLIENT, _OF_EVERY_ENTITY | TEXTS),
}
"""The names of values that may be personal, by the type of the event's entity."""
_SUBJECT_COLUMNS = {
    "user": "user_id",
    "owner": "owner_id",
    "therapist": "therapist_id",
}

_HEX = re.compile(r"[0-9a-f]{64}")

Values = dict[str, Any]


class Commitments:
    """Replaces the personal data of events and collects them as rows of `personal_values`."""

    def __init__(self) -> None:
        self.rows: list[Values] = []

    def withhold(self, row: Values) -> None:
        """Replace the personal data in a new audit row's old and new values."""
        for column in ("old_values", "new_values"):
            row[column] = self._replaced(row, row[column])

    def _replaced(self, row: Values, values: Values) -> Values:
        # Most values are neither nested nor under a name of personal data.
        names = _NAMES.get(row["entity_type"], _OF_EVERY_ENTITY)
        if names.isdisjoint(values) and NESTED.isdisjoint(map(type, values.values())):
            return values
        new_values = values.copy()
        for name, value in values.items():
            if name in names or (value and type(value) in NESTED):
                new_values[name] = self._replaced_item(row, name, value)
        if MARK in values:
            new_values[_harmless(MARK)] = new_values.pop(MARK)
        return new_values

    def _replaced_item(self, row: Values, name: str, value: Any) -> Any:
        if value is None:
            return value
        owner = _owner_of(row, name)
        if owner is None:
            return self._searched(row, value)
        subject = _subject(row, owner, value)
        if not isinstance(value, dict):
            field = name.rpartition("_")[2]
            is_personal = field in FIELDS or field in TEXTS
            return self._commit(row, subject, field, value) if is_personal else value
        return {
            _harmless(field): self._commit(row, subject, field, item)
            if field in FIELDS and item is not None
            else self._searched(row, item)
            for field, item in value.items()
        }

    def _searched(self, row: Values, value: Any) -> Any:
        """Replace the personal data inside a value that describes no user itself."""
        if isinstance(value, dict):
            return self._replaced(row, value)
        if isinstance(value, list):
            return [self._searched(row, item) for item in value]
        return value

    def _commit(self, row: Values, subject: int | None, field: str, value: Any) -> Values:
        text, salt = canonical(value).decode(), secrets.token_bytes(SALT_BYTES)
        commitment = commitment_of(salt, text)
        self.rows.append(
            {
                "commitment": commitment,
                "organization_id": row["organization_id"],
                "event_id": row["event_id"],
                "subject_id": subject,
                "field": field,
                "salt": salt,
                "value": text,
            }
        )
        return {MARK: commitment.hex()}


def _harmless(name: str) -> str:
    """Return a name with which a value of an event cannot look like one of our commitments."""
    return f"${name}" if name == MARK else name


def _owner_of(row: Values, name: str) -> str | None:
    """Return whose personal data a column holds: a name of USER_NAMES, `entity`, or None."""
    entity_type = row["entity_type"]
    if name in TEXTS:
        has_client = entity_type in _OF_A_CLIENT and _subject(row, "client", None) is not None
        return "client" if has_client else None
    if entity_type in USER_ENTITIES and name in FIELDS:
        return "entity"
    return _OWNERS.get(name)


def _subject(row: Values, owner: str, value: Any) -> int | None:
    """Return the id of the user whose data a value is, or None if the event does not name it."""
    if owner == "entity":
        id_ = row["entity_id"]
    elif isinstance(value, dict) and "id" in value:
        id_ = value["id"]
    else:
        column = _SUBJECT_COLUMNS.get(owner, "client_id")
        values = row["new_values"] if column in row["new_values"] else row["old_values"]
        id_ = values.get(column)
        if owner == "buyer":
            # The guardian pays for a dependant: the invoice names the guardian.
            id_ = row["new_values"].get("payer_id", id_)
    return id_ if type(id_) is int else None


def commitment_of(salt: bytes, text: str) -> bytes:
    """Return the commitment to a personal value's canonical text."""
    return hashlib.sha256(salt + text.encode()).digest()


def is_committed(commitment: bytes, salt: bytes, text: str) -> bool:
    """Return whether a commitment was made to this value."""
    return hmac.compare_digest(commitment_of(salt, text), commitment)


def references(value: Any) -> Iterator[bytes]:
    """Yield the commitments in a stored value."""
    if isinstance(value, Mapping):
        if is_reference(value):
            yield bytes.fromhex(value[MARK])
        else:
            for item in value.values():
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def is_reference(value: Mapping[str, Any]) -> bool:
    """Return whether an object is a reference to a personal value."""
    mark = value.get(MARK)
    return len(value) == 1 and isinstance(mark, str) and _HEX.fullmatch(mark) is not None


def filled(value: Any, personal: Mapping[bytes, Any]) -> Any:
    """Return a stored value with its personal data, or with `[erased]` where they were erased."""
    if isinstance(value, list):
        return [filled(item, personal) for item in value]
    if not isinstance(value, Mapping):
        return value
    if is_reference(value):
        return personal.get(bytes.fromhex(value[MARK]), ERASED)
    return {name: filled(item, personal) for name, item in value.items()}
