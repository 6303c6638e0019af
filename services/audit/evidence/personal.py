"""Personal data in audit rows: the row keeps a commitment, the value stands apart and can go.

See docs/decisions for the scheme. A name, e-mail address, telephone number or postal address of a
person, and what somebody wrote about a client's voucher, is replaced in `old_values` and
`new_values` by `{"$personal": "<commitment>"}`, the SHA-256 of a random salt and the canonical
value. The chain covers the commitment, so erasing value and salt breaks nothing, and without the
salt nobody can try names until one fits.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from services.audit.evidence.canonical import canonical

MARK = "$personal"
ERASED = "[erased]"
SALT_BYTES = 16

FIELDS = frozenset({"name", "email", "phone", "address"})
PEOPLE = frozenset({"user", "buyer", "client", "owner", "payer", "therapist"})
"""An object under one of these names, or the entity `user` itself, tells of a person; so does a
column such as `client_name`."""

TEXTS = frozenset({"notes", "reason"})
"""What people write about a client's voucher or refund, where the event says which client's."""

_OF_A_CLIENT = frozenset({"voucher", "refund"})
_FLAT = {f"{person}_{field}" for person in PEOPLE for field in FIELDS}
_TELLING = FIELDS | TEXTS | PEOPLE | _FLAT | {MARK}
_NESTED = (dict, list)
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
        # Most values are neither nested nor of a name that could tell of anybody.
        kept: Values = {}
        for name, value in values.items():
            if name in _TELLING or type(value) in _NESTED:
                kept[_harmless(name)] = self._replaced_item(row, name, value)
            else:
                kept[name] = value
        return kept

    def _replaced_item(self, row: Values, name: str, value: Any) -> Any:
        if value is None:
            return value
        person = _person_of(row, name)
        if person is None:
            return self._searched(row, value)
        subject = _subject(row, person, value)
        if not isinstance(value, dict):
            field = name.rpartition("_")[2]
            told = field in FIELDS or field in TEXTS
            return self._commit(row, subject, field, value) if told else value
        return {
            _harmless(field): self._commit(row, subject, field, item)
            if field in FIELDS and item is not None
            else self._searched(row, item)
            for field, item in value.items()
        }

    def _searched(self, row: Values, value: Any) -> Any:
        """Look for people inside a value that tells of nobody by itself."""
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
    """Keep an event from carrying something that would pass for a commitment of ours."""
    return f"${name}" if name == MARK else name


def _person_of(row: Values, name: str) -> str | None:
    """Return whom a column tells of, or None when it tells of nobody."""
    entity_type = row["entity_type"]
    if name in TEXTS:
        named = entity_type in _OF_A_CLIENT and _subject(row, "client", None) is not None
        return "client" if named else None
    if entity_type == "user" and name in FIELDS:
        return "entity"
    if name in PEOPLE:
        return name
    return name.rpartition("_")[0] if name in _FLAT else None


def _subject(row: Values, person: str, value: Any) -> int | None:
    """Return the id of the user that a value tells of, where the event says it."""
    if person == "entity":
        found = row["entity_id"]
    elif isinstance(value, dict) and "id" in value:
        found = value["id"]
    else:
        column = _SUBJECT_COLUMNS.get(person, "client_id")
        told = row["new_values"] if column in row["new_values"] else row["old_values"]
        found = told.get(column)
    return found if type(found) is int else None


def commitment_of(salt: bytes, text: str) -> bytes:
    """Return what a row keeps of a personal value's canonical text."""
    return hashlib.sha256(salt + text.encode()).digest()


def is_committed(commitment: bytes, salt: bytes, text: str) -> bool:
    """Say whether a value is the one that was committed to."""
    return hmac.compare_digest(commitment_of(salt, text), commitment)


def references(value: Any) -> Iterator[bytes]:
    """Yield the commitments that a stored value refers to."""
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
    """Say whether an object stands for a personal value."""
    mark = value.get(MARK)
    return len(value) == 1 and isinstance(mark, str) and _HEX.fullmatch(mark) is not None


def filled(value: Any, known: Mapping[bytes, Any]) -> Any:
    """Return stored values with their personal data, or with `[erased]` in their place."""
    if isinstance(value, list):
        return [filled(item, known) for item in value]
    if not isinstance(value, Mapping):
        return value
    if is_reference(value):
        return known.get(bytes.fromhex(value[MARK]), ERASED)
    return {name: filled(item, known) for name, item in value.items()}
