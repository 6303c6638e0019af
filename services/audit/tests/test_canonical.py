"""The canonical text is that of RFC 8785, by each of its writers and in any number of pieces."""

import json
from typing import Any

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from services.audit.evidence.canonical import canonical, storable
from services.audit.evidence.chain import Text, hash_of
from services.audit.evidence.drafts import draft_of, general_draft_of, plain_draft_of, row_of
from services.audit.tests.conftest import event
from shared.events import Event

SAFE = st.integers(-(2**53) + 1, 2**53 - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"]))
# Whole ones are stored as integers, and the RFC knows none as large as some of them.
FRACTIONS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda n: not n.is_integer())
VALUES = st.recursive(
    st.none() | st.booleans() | SAFE | NAMES | FRACTIONS,
    lambda inner: st.lists(inner) | st.dictionaries(NAMES | st.text("abcXYZ_09$"), inner),
    max_leaves=20,
)


@given(VALUES)
def test_it_is_that_of_the_rfc(value: Any) -> None:
    stored, write = storable(value)
    assert canonical(stored) == write(stored) == rfc8785.dumps(stored)


@given(st.dictionaries(NAMES, VALUES), SAFE, SAFE)
def test_a_row_hashed_in_pieces_has_the_hash_of_the_whole(
    values: dict[str, Any], id_: int, position: int
) -> None:
    row, write = row_of(event(new_values=values))
    placed = {**row, "id": id_, "position": position, "previous_hash": bytes(range(32))}
    assert Text.of(row, write).hash(bytes(range(32)), id_, position) == hash_of(placed)


EXTRAS = st.sampled_from([{}, {"traceparent": "x"}, {"traceparent": {"é": 1.5}}])


@given(st.dictionaries(NAMES, VALUES | st.integers()), EXTRAS)
def test_a_plain_draft_is_that_of_the_general_way(
    values: dict[str, Any], extras: dict[str, Any]
) -> None:
    body = event(new_values=values).model_dump(mode="json") | extras
    sent = Event.model_validate_json(json.dumps(body))
    general, draft = general_draft_of(sent), draft_of(sent)
    assert draft.text.hash(bytes(32), 5, 2**40) == general.text.hash(bytes(32), 5, 2**40)
    assert {**draft.columns, **_parsed(draft.columns)} == {
        **general.columns,
        **_parsed(general.columns),
    }


def _parsed(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: json.loads(columns[name]) for name in ("old_values", "new_values", "envelope")}


@given(st.dictionaries(st.text("ab_"), st.integers(0, 9) | st.text() | st.none()))
def test_usual_events_are_plain(values: dict[str, Any]) -> None:
    has_nul = "\\u0000" in json.dumps(values)
    assert (plain_draft_of(event(new_values=values)) is None) == has_nul


def test_personal_values_are_withheld_in_both_ways() -> None:
    values = {
        "client_id": 5,
        "buyer": {"name": "Anna", "email": "a@b.eu"},
        "lines": [{"user": {"name": "B"}}],
    }
    sent = event("PURCHASE", "voucher", new_values=values)
    plain = plain_draft_of(sent)
    assert plain is not None
    for draft in (plain, general_draft_of(sent)):
        assert "Anna" not in draft.columns["new_values"]
        assert [row["value"] for row in draft.personal] == ['"Anna"', '"a@b.eu"', '"B"']
    assert sent.data.new_values == values
