"""How long a revocation is remembered, and when a gateway no longer trusts its own."""

import pytest

from gateway.revocations.revocation_store import RETENTION, RevocationStore
from shared.actors import Actor
from shared.errors import Unauthenticated


def test_entries_are_forgotten_once_their_tokens_have_run_out() -> None:
    now = 0.0
    revocations = RevocationStore(blind_limit=30, clock=lambda: now)
    actor = Actor(7, "client", 3, session_id="ended", issued_at=99.0)
    revocations.end_sessions(["ended"])
    now = RETENTION - 1
    revocations.confirm_current(now)
    with pytest.raises(Unauthenticated):
        revocations.check(actor)
    now = RETENTION + 1
    revocations.confirm_current(now)
    revocations.check(actor)


def test_an_entry_that_is_noted_again_lasts_longer() -> None:
    now = 0.0
    revocations = RevocationStore(blind_limit=30, clock=lambda: now)
    revocations.revoke_user_tokens_before(7, 100.0)
    now = RETENTION - 1
    revocations.revoke_user_tokens_before(7, 50.0)
    now = RETENTION + 1
    revocations.confirm_current(now)
    with pytest.raises(Unauthenticated):
        revocations.check(Actor(7, "client", issued_at=99.0))


def test_the_bound_of_blindness() -> None:
    now = 1000.0
    revocations = RevocationStore(blind_limit=30, clock=lambda: now)
    assert not revocations.is_current
    revocations.confirm_current(now)
    now += 30
    assert revocations.is_current
    now += 0.1
    assert not revocations.is_current
