"""The running system against its own OpenAPI document, with every check that schemathesis has."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.stack import Stack
from deploy.tests.stack.conftest import IN_ONE_PROCESS
from deploy.tests.stack.tenancy.cast import Caller
from deploy.tests.stack.tenancy.scene import Scene, open_scene

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

EXAMPLES = 4  # random requests for each operation, beside those at the bounds of every field

NOT_TRIED = {
    "POST /api/auth/logout": "an empty body ends the session that tests",
    "DELETE /api/auth/sessions": "it ends the session that tests",
    "DELETE /api/auth/sessions/{session_id}": "the list of sessions names the one that tests",
    "PUT /api/auth/password": "guesses lock the account that tests out",
}
"""What would end the test itself, and why. The tests of access and of identity try them."""

_ORGANIZATION = "/api/organizations/{organization_id}"

REFUSED_BY_MEANING = {
    "POST /api/auth/register": "common passwords, and the forms of addresses",
    "POST /api/auth/token": "the form's grant type",
    "POST /api/auth/dependants": "a date of birth is not in the future",
    "PUT /api/auth/dependants/{dependant_id}": "as above",
    f"POST {_ORGANIZATION}/users/{{user_id}}/dependants": "as above",
    f"PUT {_ORGANIZATION}/users/{{user_id}}/dependants/{{dependant_id}}": "as above",
    "POST /api/auth/password-reset/confirm": "the characters of passwords",
    "POST /api/auth/invitation/accept": "the characters of passwords",
    "POST /api/auth/reauthenticate": "the password or a code, not both",
    "PUT /api/auth/address": "the forms of addresses",
    "POST /api/admin/users": "role and organization belong together; common passwords",
    "PUT /api/admin/users/{user_id}": "the forms of addresses",
    "PUT /api/admin/users/{user_id}/password": "common passwords",
    f"POST {_ORGANIZATION}/users": "common passwords, and the forms of addresses",
    f"PUT {_ORGANIZATION}/users/{{user_id}}": "the forms of addresses",
    "POST /api/admin/organizations": "time zones, addresses, and the owner's password",
    "PUT /api/admin/organizations/{organization_id}": "time zones and addresses",
    f"PUT {_ORGANIZATION}": "time zones and addresses",
    f"POST {_ORGANIZATION}/voucher-types": "custom_days and the frequency; the least validity",
    f"PUT {_ORGANIZATION}/voucher-types/{{voucher_type_id}}": "as above",
    "POST /api/vouchers/purchase": "a token belongs to a card",
    "POST /api/vouchers/{voucher_id}/redemptions": "days on which the voucher is valid",
    "POST /api/vouchers/{voucher_id}/freezes": "days on which the voucher is valid",
    "POST /api/vouchers/{voucher_id}/extensions": "a day later than the last one",
    "POST /api/vouchers/{voucher_id}/refund-quote": "no more sessions than are unused",
    "POST /api/vouchers/{voucher_id}/transfers": "another client, no more sessions than are unused",
    "POST /api/vouchers/{voucher_id}/returns": "no more sessions than are unused",
    "POST /api/vouchers/{voucher_id}/refunds": "an expired voucher needs a reason",
    "POST /api/vouchers/{voucher_id}/adjustments/{adjustment_id}/reverse": "a reason, as above",
    f"POST {_ORGANIZATION}/payments/{{payment_id}}/refunds": "amounts have two decimals",
    "POST /api/calendar-feeds": "users without an organization name one",
    f"POST {_ORGANIZATION}/closures/holidays": "countries with known holidays, and their parts",
    f"PUT {_ORGANIZATION}/resources/{{resource_id}}/busy-calendar": "hosts that are public",
    f"GET {_ORGANIZATION}/payments/totals": "`to` is not before `from`",
    f"GET {_ORGANIZATION}/payouts/statement": "`bom` is for CSV alone",
    f"GET {_ORGANIZATION}/payouts/{{payout_id}}": "`bom` is for CSV alone",
    f"PUT {_ORGANIZATION}/platform-fee": "an amount and its currency belong together",
    f"GET {_ORGANIZATION}/audit-logs/verify": "`last` is not before `first`",
    f"GET {_ORGANIZATION}/audit-logs/export": "`bom` is for CSV alone",
    "GET /api/admin/audit-logs/export": "`bom` is for CSV alone",
    "GET /api/admin/audit-logs/verify": "a range is of one organization's chain",
    f"POST {_ORGANIZATION}/payment-account": "addresses of web pages",
    f"POST {_ORGANIZATION}/resources": "a therapist has a user, others a name",
    f"PUT {_ORGANIZATION}/resources/{{resource_id}}": "voucher types of the organization",
    f"PUT {_ORGANIZATION}/resources/{{resource_id}}/working-hours": "hours end after they begin",
    f"GET {_ORGANIZATION}/resources/{{resource_id}}/calendar": "`until` is after `from`",
    f"PUT {_ORGANIZATION}/booking-settings": "each reminder is named once",
    f"POST {_ORGANIZATION}/closures": "times that a clock can show",
    f"POST {_ORGANIZATION}/classes": "a room and voucher types of the organization",
    f"PUT {_ORGANIZATION}/classes/{{class_id}}": "as above",
    f"POST {_ORGANIZATION}/sessions": "a session without a class has a duration",
    f"POST {_ORGANIZATION}/session-series": "weekdays are named once, dates are not in the past",
    f"PUT {_ORGANIZATION}/session-series/{{series_id}}": "as above, and time zones",
    f"POST {_ORGANIZATION}/session-series/{{series_id}}/end": "a last day is not in the past",
    f"GET {_ORGANIZATION}/sessions": "`until` is after `from`",
    "PUT /api/sessions/{class_session_id}/attendance": "a body has at most 1,000 values",
    "GET /api/vouchers/{voucher_id}/slots": "`until` is at most 62 days after `from`",
    "GET /api/vouchers/{voucher_id}/slot-days": "as above",
    "GET /api/voucher-types/{voucher_type_id}/slots": "as above",
    "POST /api/vouchers/{voucher_id}/eligibility": "either a session or a time",
    "POST /api/vouchers/{voucher_id}/reservations": "as above",
    "POST /api/vouchers/{voucher_id}/reservations/series": "a first date is not in the past",
    "POST /api/reservations/{reservation_id}/reschedule": "as above",
    "POST /api/payments/webhooks/{gateway_name}": "only the payment gateway can sign",
    "POST /api/payments/webhooks/{gateway_name}/connect": "only the payment gateway can sign",
}
"""Where a body that fits the schema may be refused: a rule that JSON Schema cannot express."""


ACCEPTED = ("2xx", "401", "402", "403", "404", "409", "412", "429")
"""What may happen to a request that fits the schema; 412 is for its If-Match, 402 for its card."""

# One thread: hypothesis reads source code by `ast.parse`, whose depth CPython 3.11 counts for all
# threads together, and refuses when two of them are at it.
SETTINGS = f"""\
workers = 1
continue-on-failure = true
hooks = "deploy.tests.stack.schema_hooks"

[cache]
enabled = false

[generation]
max-examples = {EXAMPLES}
no-shrink = true
deterministic = true
database = "none"

[checks.positive_data_acceptance]
expected-statuses = {json.dumps(ACCEPTED)}

[phases.stateful]
enabled = false
"""


@pytest.fixture(scope="module")
async def furnished(stack: Stack) -> AsyncIterator[Scene]:
    """A scene of these tests' own: what they send changes it."""
    async with open_scene(stack) as scene:
        yield scene


ROLES = ("owner", "admin")
FIRST_ROLE_ONLY = """
[[operations]]
exclude-path-regex = "^/api/admin/"
phases.coverage.enabled = false
"""
"""The bounds of every field are the same for all roles: one role tries them."""


@pytest.mark.parametrize("role", ROLES)
async def test_every_answer_is_as_documented(
    role: str, furnished: Scene, stack: Stack, tmp_path: Path
) -> None:
    caller: Caller = getattr(furnished.cast, role)
    await caller.sign_in()
    document = (await caller.api.get("/openapi.json")).json()
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(_settings(document) + FIRST_ROLE_ONLY * (role != ROLES[0]))
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        *("--config-file", settings, "run", f"{stack.address}/openapi.json", "--no-color"),
        *("--header", f"Authorization: Bearer {caller.token}"),
        cwd=tmp_path,
        env={**os.environ, "CARNET_SCHEMA_IDS": json.dumps(_ids(furnished))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode(errors="replace")
    assert process.returncode == 0, output
    assert f"Tested: {_operations(document) - len(NOT_TRIED)}" in output
    await caller.call("GET", "/api/auth/me")  # still signed in: so it was not 401 that was tried


def _operations(document: dict[str, Any]) -> int:
    return sum(len(item) for item in document["paths"].values())


def _ids(scene: Scene) -> dict[str, int]:
    """The ids of what is there, by the names of parameters and fields."""
    return {name: value for name, value in scene.standing.items() if type(value) is int}


def _settings(document: dict[str, Any]) -> str:
    excluded = [_for([name], "enabled = false") for name in NOT_TRIED]
    by_meaning = [_refusable([name], reason) for name, reason in REFUSED_BY_MEANING.items()]
    return SETTINGS + "".join(
        [*excluded, *by_meaning, _refusable(_lists(document), "a cursor is one that it gave out")]
    )


def _lists(document: dict[str, Any]) -> list[str]:
    return [
        f"{method.upper()} {path}"
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if any(p["name"] == "cursor" for p in operation.get("parameters", ()))
    ]


def _refusable(names: list[str], reason: str) -> str:
    accepted = json.dumps([*ACCEPTED, "400", "422"])
    return f"\n# {reason}" + _for(
        names, f"checks.positive_data_acceptance.expected-statuses = {accepted}"
    )


def _for(names: list[str], setting: str) -> str:
    return f"\n[[operations]]\ninclude-name = {json.dumps(names)}\n{setting}\n"
