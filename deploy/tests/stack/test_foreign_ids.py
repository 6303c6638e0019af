"""What belongs to others answers exactly like what never existed."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest

from deploy.tests.stack.conftest import IN_ONE_PROCESS
from deploy.tests.stack.tenancy.cast import Caller
from deploy.tests.stack.tenancy.requests import request_of
from deploy.tests.stack.tenancy.scene import VOUCHER_TYPE, Ids, Scene
from deploy.tests.stack.test_tenants import ROWS, Row

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

NEVER: Ids = {
    "organization_id": 2**40 + 1,
    "user_id": 2**40 + 2,
    "client_id": 2**40 + 3,
    "voucher_type_id": 2**40 + 4,
    "voucher_id": 2**40 + 5,
    "redemption_id": 2**40 + 6,
    "adjustment_id": 2**40 + 7,
    "payment_id": 2**40 + 8,
    "invoice_id": 2**40 + 9,
    "number": "CN-2026-999999",
    "session_id": UUID(int=1),
    "feed_id": 2**40 + 10,
}
"""Ids that no object ever had."""

NAMED_IN_THE_BODY = {
    "POST /api/vouchers/purchase",
    "POST /api/organizations/{organization_id}/vouchers",
}
VARYING = {"date", "x-request-id", "content-length"}  # the length is that of `instance`


@dataclass(frozen=True)
class Told:
    """Everything in an answer except the path and id of its request."""

    status: int
    headers: frozenset[tuple[str, str]]
    body: Any


def told(answer: httpx.Response) -> Told:
    """Read an answer; what is no problem is compared byte for byte."""
    headers = frozenset((k, v) for k, v in answer.headers.items() if k not in VARYING)
    if answer.headers["content-type"] != "application/problem+json":
        return Told(answer.status_code, headers, answer.content)
    problem = answer.json()
    del problem["instance"], problem["request_id"]
    return Told(answer.status_code, headers, problem)


async def _both(row: Row, scene: Scene, caller: Caller, foreign: Ids, never: Ids) -> list[Told]:
    """Try an operation with the ids of another organization, and with ids that do not exist."""
    answers = []
    for ids in (foreign, never):
        request = request_of(row.operation, scene, caller, ids)
        answers.append(told(await caller.send(request.method, request.path, **request.options)))
    return answers


def _names_more_than_the_organization(row: Row) -> bool:
    return row.operation in NAMED_IN_THE_BODY or row.names(*(NEVER.keys() - {"organization_id"}))


@pytest.fixture(scope="module")
async def foreign(scene: Scene) -> Ids:
    """The first organization's ids; the session among them is live, whatever ran before."""
    return scene.standing | await scene.session(scene.cast.client)


@pytest.mark.parametrize("row", [row for row in ROWS if row.names(*NEVER)], ids=str)
async def test_another_organizations_ids(row: Row, scene: Scene, foreign: Ids) -> None:
    cast = scene.cast
    never = foreign | NEVER
    for caller in (cast.stranger, cast.outsider):
        with_theirs, with_nobodys = await _both(row, scene, caller, foreign, never)
        assert with_theirs.status in (403, 404)
        assert with_theirs == with_nobodys, caller.name


@pytest.mark.parametrize(
    "row", [row for row in ROWS if _names_more_than_the_organization(row)], ids=str
)
async def test_anothers_ids_within_ones_own_organization(
    row: Row, scene: Scene, foreign: Ids
) -> None:
    cast = scene.cast
    for caller in (cast.stranger, cast.outsider):
        here = {"organization_id": caller.organization_id}
        with_theirs, with_nobodys = await _both(
            row, scene, caller, foreign | here, foreign | NEVER | here
        )
        assert with_theirs.status in (403, 404)
        assert with_theirs == with_nobodys, caller.name


@pytest.mark.parametrize("row", [row for row in ROWS if row.statuses["neighb"] == 404], ids=str)
async def test_another_clients_ids_in_the_same_organization(row: Row, scene: Scene) -> None:
    here = {"organization_id": scene.standing["organization_id"]}
    never = scene.standing | NEVER | here
    theirs, nobodys = await _both(row, scene, scene.cast.neighbour, scene.standing, never)
    assert theirs.status == 404
    assert theirs == nobodys


FILTERS = [
    ("/api/voucher-types/available", "organization_id", "organization_id"),
    ("{here}/vouchers", "client_id", "client_id"),
    ("{here}/vouchers", "type", "voucher_type_id"),
    ("{here}/vouchers", "code", "code"),
    ("{here}/vouchers", "q", "code"),
    ("{here}/payments", "client_id", "client_id"),
    ("{here}/audit-logs", "user_id", "client_id"),
    ("{here}/audit-logs", "entity_id", "voucher_id"),
    ("{here}/users", "q", "client_email"),
]


@pytest.mark.parametrize(("path", "parameter", "name"), FILTERS)
async def test_filters_by_anothers_ids_find_nothing(
    scene: Scene, path: str, parameter: str, name: str
) -> None:
    stranger = scene.cast.stranger
    here = f"/api/organizations/{stranger.organization_id}"
    never = {**NEVER, "code": "22222222", "client_email": "nobody@example.com"}
    # Another's voucher may have the number of one's own organization.
    kind = {"entity_type": "voucher"} if parameter == "entity_id" else {}
    answers = [
        await stranger.send("GET", path.format(here=here), params={parameter: ids[name], **kind})
        for ids in (await _with_texts(scene), never)
    ]
    assert [answer.json() for answer in answers] == [[], []]
    assert told(answers[0]) == told(answers[1])


async def _with_texts(scene: Scene) -> Ids:
    codes = (await scene.cast.client.call("GET", f"/api/vouchers/{scene.standing['voucher_id']}"))[
        "codes"
    ]
    return {**scene.standing, "code": codes[-1]["code"], "client_email": scene.cast.client.email}


async def test_anothers_code_on_ones_own_voucher(scene: Scene) -> None:
    stranger, outsider = scene.cast.stranger, scene.cast.outsider
    here = f"/api/organizations/{stranger.organization_id}/voucher-types"
    kind = await stranger.call("POST", here, VOUCHER_TYPE, expect=201)
    card = {"payment_method": "credit_card", "payment_token": "pm_card_visa"}
    order = {"voucher_type_id": kind["id"], **card}
    voucher = await outsider.call("POST", "/api/vouchers/purchase", order, expect=201)
    theirs = (await _with_texts(scene))["code"]
    path = f"/api/vouchers/{voucher['id']}/redemptions"
    answers = await asyncio.gather(
        *(stranger.send("POST", path, json={"code": code}) for code in (theirs, "22222222"))
    )
    assert [answer.status_code for answer in answers] == [404, 404]
    assert told(answers[0]) == told(answers[1])
