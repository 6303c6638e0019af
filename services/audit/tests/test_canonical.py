"""The canonical text is that of RFC 8785, by each of its writers and in any number of pieces."""

from typing import Any

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from services.audit.evidence.canonical import canonical, storable
from services.audit.evidence.chain import Text, hash_of
from services.audit.evidence.drafts import row_of
from services.audit.tests.conftest import event

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
