"""Events revoke tokens at every gateway within moments."""

import time
from typing import Any

import pytest
from prometheus_client import REGISTRY

from gateway.tests.conftest import (
    open_stack,
    token,
)
from gateway.tests.revocations.published_events import (
    becomes,
    listening,
    publish,
    publisher,
    status,
)
from shared import bus
from shared.testing import until

pytestmark = pytest.mark.anyio


async def test_an_ended_session_stops_at_every_gateway() -> None:
    ended, other = token(sid="ended"), token(sid="other")
    async with open_stack() as one, open_stack() as two, publisher() as exchange:
        await listening(one, two)
        assert [await status(stack, ended) for stack in (one, two)] == [200, 200]
        changes = {"ended_sessions": ["ended"]}
        await publish(exchange, "identity.user.logged_out.v1", ("user", 7), changes)
        for stack in (one, two):
            await becomes(stack, ended, 401)
            assert await status(stack, other) == 200


async def test_a_changed_user_needs_a_new_token() -> None:
    issued = round(time.time(), 3)
    before, after = token(iat=issued - 0.001), token(iat=issued)
    somebody_elses = token(sub="8", iat=issued - 1)
    async with open_stack() as stack, publisher() as exchange:
        await listening(stack)
        assert await status(stack, before) == 200
        changes = {"tokens_not_before": issued, "is_active": False}
        await publish(exchange, "identity.user.updated.v1", ("user", 7), changes)
        await becomes(stack, before, 401)
        assert await status(stack, after) == 200
        assert await status(stack, somebody_elses) == 200


@pytest.mark.parametrize("moved_to", ["old_values", "new_values"])
async def test_a_changed_permission_counts_for_its_user(moved_to: str) -> None:
    held = token(iat=time.time() - 1)
    new_values: dict[str, Any] = {"tokens_not_before": round(time.time(), 3)}
    values: dict[str, dict[str, Any]] = {"old_values": {}, "new_values": new_values}
    values[moved_to]["user_id"] = 7
    async with open_stack() as stack, publisher() as exchange:
        await listening(stack)
        event_type, entity = "identity.permission.revoked.v1", ("permission", 99)
        await publish(
            exchange, event_type, entity, values["new_values"], old_values=values["old_values"]
        )
        await becomes(stack, held, 401)


async def test_a_closed_organization_and_its_return() -> None:
    members, others = token(organization_id=3), token(organization_id=4)
    async with open_stack() as stack, publisher() as exchange:
        await listening(stack)
        closed, updated = (
            f"organizations.organization.{what}.v1" for what in ("deactivated", "updated")
        )
        await publish(exchange, closed, ("organization", 3), {"is_active": False})
        await becomes(stack, members, 401)
        assert await status(stack, others) == 200
        await publish(exchange, updated, ("organization", 3), {"name": "renamed"})
        await publish(exchange, updated, ("organization", 4), {"is_active": False})
        await becomes(stack, others, 401)
        assert await status(stack, members) == 401
        await publish(exchange, updated, ("organization", 3), {"is_active": True}, version=3)
        await becomes(stack, members, 200)


async def test_events_that_cannot_be_understood_do_not_stop_the_feed() -> None:
    held = token(sid="ended")
    async with open_stack() as stack, publisher() as exchange:
        await listening(stack)
        key = "identity.user.updated.v1"
        await bus.publish(exchange, key, bus.persistent_message(b"not json", "1", user="identity"))
        await publish(exchange, key, ("user", 7), {"tokens_not_before": "never"})
        await publish(exchange, key, ("user", 7), {"ended_sessions": ["ended"]})
        await becomes(stack, held, 401)


def forged_messages() -> float:
    queue = {"queue": "gateway.revocations"}
    return REGISTRY.get_sample_value("carnet_messages_forged_total", queue) or 0.0


async def test_an_event_of_another_user_revokes_nothing_and_is_alarmed_of() -> None:
    held = token(sid="kept")
    async with open_stack() as stack, publisher() as exchange:
        await listening(stack)
        forged = forged_messages()
        kind, changes = "identity.user.logged_out.v1", {"ended_sessions": ["kept"]}
        for user in ("vouchers", None):
            await publish(exchange, kind, ("user", 7), changes, user=user)
        await until(lambda: forged_messages() >= forged + 2)
        assert await status(stack, held) == 200
        await publish(exchange, kind, ("user", 7), changes)
        await becomes(stack, held, 401)
