"""Tenants are separated: every caller tries every operation.

The table is the rule. An operation of the merged OpenAPI document that it lacks fails the tests.
"""

import asyncio
from dataclasses import dataclass

import httpx
import pytest

from deploy.tests.stack.conftest import IN_ONE_PROCESS
from deploy.tests.stack.tenancy.cast import PERMISSIONS, Caller, Cast
from deploy.tests.stack.tenancy.requests import fresh_ids, request_of
from deploy.tests.stack.tenancy.scene import Scene

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

# Whose statuses the columns hold:
#   anon      nobody is signed in                    with      staff who hold one of the permissions
#   client    whose the objects are                            that the row names, or `all`
#   neighb    another client of the organization     owner     of the organization
#   therap    a therapist without permissions        stranger  another organization's owner
#   staff     staff without permissions, and with    admin     of the system
#             any that the row does not name
# The stack charges on one account of the installation, so there are no payouts (409).
TABLE = """
anon client neighb therap staff  with owner stranger admin  /.well-known/jwks.json
 200    200    200    200   200     -   200      200   200  GET

anon client neighb therap staff  with owner stranger admin  /api/auth
 201    201    201    201   201     -   201      201   201  POST   /register
 200    200    200    200   200     -   200      200   200  POST   /login
 200    200    200    200   200     -   200      200   200  POST   /token
 200    200    200    200   200     -   200      200   200  POST   /refresh
 200    200    200    200   200     -   200      200   200  POST   /logout
 202    202    202    202   202     -   202      202   202  POST   /password-reset
 404    404    404    404   404     -   404      404   404  POST   /password-reset/confirm
 401    202    202    202   202     -   202      202   202  PUT    /address
 404    404    404    404   404     -   404      404   404  POST   /address/confirm
 404    404    404    404   404     -   404      404   404  POST   /invitation/accept
 404    404    404    404   404     -   404      404   404  POST   /links/renew
 401    401    401    401   401     -   401      401   401  POST   /login/second-factor
 401    401    401    401   401     -   401      401   401  POST   /login/second-factor/setup
 401    200    200    200   200     -   200      200   200  POST   /reauthenticate
 401    200    200    200   200     -   200      200   200  GET    /second-factor
 401    201    201    201   201     -   201      201   201  POST   /second-factor
 401    403    403    403   403     -   403      403   403  POST   /second-factor/confirm
 401    404    404    404   404     -   404      404   404  POST   /second-factor/recovery-codes
 401    404    404    404   404     -   404      404   404  DELETE /second-factor
 401    200    200    200   200     -   200      200   200  GET    /me
 401    200    200    200   200     -   200      200   200  PUT    /me
 401    200    200    200   200     -   200      200   200  PUT    /password
 401    200    200    200   200     -   200      200   200  GET    /sessions
 401    200    200    200   200     -   200      200   200  DELETE /sessions/{session_id}
 401    200    200    200   200     -   200      200   200  DELETE /sessions
 401    200    200    200   200     -   200      200   200  GET    /dependants
 401    201    201    409   409     -   409      409   409  POST   /dependants
 401    200    404    404   404     -   404      404   404  PUT    /dependants/{dependant_id}
 401    200    404    404   404     -   404      404   404  DELETE /dependants/{dependant_id}

anon client neighb therap staff  with owner stranger admin  /api/admin/users
 401    403    403    403   403     -   403      403   200  GET
 401    403    403    403   403     -   403      403   201  POST
 401    403    403    403   403     -   403      403   200  GET    /{user_id}
 401    403    403    403   403     -   403      403   200  PUT    /{user_id}
 401    403    403    403   403     -   403      403   200  DELETE /{user_id}
 401    403    403    403   403     -   403      403   200  PUT    /{user_id}/password
 401    403    403    403   403     -   403      403   200  POST   /{user_id}/approve
 401    403    403    403   403     -   403      403   200  POST   /{user_id}/invitation
 401    403    403    403   403     -   403      403   200  DELETE /{user_id}/invitation
 401    403    403    403   403     -   403      403   200  DELETE /{user_id}/second-factor

anon client neighb therap staff  with owner stranger admin  /api/organizations/{organization_id}/users
 401    403    403    403   403   200   200      404   200  GET      manage_users
 401    403    403    403   403   201   201      404   201  POST     manage_users
 401    403    403    403   403   200   200      404   200  GET    /{user_id}  manage_users
 401    403    403    403   403   200   200      404   200  PUT    /{user_id}  manage_users
 401    403    403    403   403   200   200      404   200  DELETE /{user_id}  manage_users
 401    403    403    403   403   200   200      404   200  POST   /{user_id}/approve  manage_users
 401    403    403    403   403   200   200      404   200  GET    /{user_id}/dependants  manage_users
 401    403    403    403   403   201   201      404   201  POST   /{user_id}/dependants  manage_users
 401    403    403    403   403   200   200      404   200  PUT    /{user_id}/dependants/{dependant_id}  manage_users
 401    403    403    403   403   200   200      404   200  DELETE /{user_id}/dependants/{dependant_id}  manage_users
 401    403    403    403   403   200   200      404   200  POST   /{user_id}/invitation  manage_users
 401    403    403    403   403   200   200      404   200  DELETE /{user_id}/invitation  manage_users
 401    403    403    403   403   200   200      404   200  DELETE /{user_id}/second-factor  manage_users
 401    403    403    403   403     -   200      404   200  GET    /{user_id}/permissions
 401    403    403    403   403     -   201      404   201  POST   /{user_id}/permissions
 401    403    403    403   403     -   200      404   200  DELETE /{user_id}/permissions/{permission}

anon client neighb therap staff  with owner stranger admin  /api/admin/organizations
 401    403    403    403   403     -   403      403   200  GET
 401    403    403    403   403     -   403      403   201  POST
 401    403    403    403   403     -   403      403   200  GET    /{organization_id}
 401    403    403    403   403     -   403      403   200  PUT    /{organization_id}
 401    403    403    403   403     -   403      403   200  DELETE /{organization_id}

anon client neighb therap staff  with owner stranger admin  /api/organizations/{organization_id}
 401    200    200    200   200     -   200      404   200  GET
 401    403    403    403   403   200   200      404   200  PUT      manage_organization

anon client neighb therap staff  with owner stranger admin  /api/voucher-types/available
 401    200    200    200   200     -   200      200   200  GET

anon client neighb therap staff  with owner stranger admin  /api/voucher-types/{voucher_type_id}
 401    200    200    200   200     -   200      404   200  GET    /slots

anon client neighb therap staff  with owner stranger admin  /api/organizations/{organization_id}/voucher-types
 401    200    200    200   200     -   200      404   200  GET
 401    403    403    403   403   201   201      404   201  POST     manage_voucher_types
 401    200    200    200   200     -   200      404   200  GET    /{voucher_type_id}
 401    403    403    403   403   200   200      404   200  PUT    /{voucher_type_id}  manage_voucher_types
 401    403    403    403   403   200   200      404   200  DELETE /{voucher_type_id}  manage_voucher_types
 401    403    403    403   403   200   200      404   200  PUT    /{voucher_type_id}/deactivate  manage_voucher_types
 401    403    403    403   403   200   200      404   200  PUT    /{voucher_type_id}/activate  manage_voucher_types

anon client neighb therap staff  with owner stranger admin  /api/vouchers
 401    201    201    403   403     -   403      403   201  POST   /purchase
 401    200    200    200   200     -   200      200   200  GET    /my
 401    200    404    200   200     -   200      404   200  GET    /{voucher_id}
 401    403    404    403   403   200   200      404   200  PUT    /{voucher_id}  manage_vouchers
 401    200    404    403   403   200   200      404   200  POST   /{voucher_id}/cancel  manage_vouchers
 401    201    404    403   403   201   201      404   201  POST   /{voucher_id}/refund-quote  manage_vouchers manage_payments
 401    403    404    403   403   201   201      404   201  POST   /{voucher_id}/refunds  manage_payments
 401    403    404    201   403   201   201      404   201  POST   /{voucher_id}/redemptions  manage_vouchers
 401    200    404    200   200     -   200      404   200  GET    /{voucher_id}/redemptions
 401    403    404    403   403   201   201      404   201  POST   /{voucher_id}/redemptions/{redemption_id}/reverse  manage_vouchers
 401    200    404    200   200     -   200      404   200  GET    /{voucher_id}/adjustments
 401    403    404    403   403   201   201      404   201  POST   /{voucher_id}/freezes  manage_vouchers
 401    403    404    403   403   201   201      404   201  POST   /{voucher_id}/extensions  manage_vouchers
 401    403    404    403   403   200   200      404   200  POST   /{voucher_id}/adjustments/{adjustment_id}/reverse  manage_vouchers
 401    403    404    403   403   201   201      404   201  POST   /{voucher_id}/transfers  manage_vouchers
 401    200    404    200   200     -   200      404   200  GET    /{voucher_id}/transfers
 401    403    404    403   403   201   201      404   201  POST   /{voucher_id}/returns  manage_vouchers

 401    200    404    200   403   200   200      404   200  GET    /{voucher_id}/slots  manage_bookings
 401    200    404    200   403   200   200      404   200  GET    /{voucher_id}/slot-days  manage_bookings
 401    200    404    200   403   200   200      404   200  POST   /{voucher_id}/eligibility  manage_bookings
 401    201    404    201   403   201   201      404   201  POST   /{voucher_id}/reservations  manage_bookings
 401    200    404    200   403   200   200      404   200  GET    /{voucher_id}/reservations  manage_bookings
 401    200    404    200   403   200   200      404   200  POST   /{voucher_id}/reservations/series  manage_bookings

anon client neighb therap staff  with owner stranger admin  /api/reservations
 401    200    200    200   200     -   200      200   200  GET    /my
 401    200    404    200   404   200   200      404   200  GET    /{reservation_id}  manage_bookings
 401    200    404    200   404   200   200      404   200  GET    /{reservation_id}/cancellation  manage_bookings
 401    200    404    403   404   200   200      404   200  POST   /{reservation_id}/confirm  manage_bookings
 401    200    404    200   404   200   200      404   200  POST   /{reservation_id}/cancel  manage_bookings
 401    200    404    200   404   200   200      404   200  POST   /{reservation_id}/reschedule  manage_bookings
 401    403    404    409   404   409   409      404   409  POST   /{reservation_id}/attend  manage_bookings
 401    403    404    409   404   409   409      404   409  POST   /{reservation_id}/no-show  manage_bookings

anon client neighb therap staff  with owner stranger admin  /api/calendar-feeds
 401    201    201    201   201     -   201      404   201  POST
 401    200    200    200   200     -   200      200   200  GET
 401    200    200    200   200     -   200      200   200  DELETE /{feed_id}

anon client neighb therap staff  with owner stranger admin  /api/calendars/{token}.ics
 200    200    200    200   200     -   200      200   200  GET

anon client neighb therap staff  with owner stranger admin  /api/sessions/{class_session_id}
 401    200    200    200   200     -   200      404   200  GET
 401    403    403    200   403   200   200      404   200  PUT      manage_bookings
 401    403    403    200   403   200   200      404   200  POST   /cancel  manage_bookings
 401    403    403    409   403   409   409      404   409  PUT    /attendance  manage_bookings

anon client neighb therap staff  with owner stranger admin  /api/organizations/{organization_id}
 401    403    403    200   200     -   200      404   200  GET    /booking-settings
 401    403    403    403   403   200   200      404   200  PUT    /booking-settings  manage_bookings
 401    200    200    200   200     -   200      404   200  GET    /resources
 401    403    403    403   403   201   201      404   201  POST   /resources  manage_bookings
 401    200    200    200   200     -   200      404   200  GET    /resources/{resource_id}
 401    403    403    403   403   200   200      404   200  PUT    /resources/{resource_id}  manage_bookings
 401    403    403    200   200     -   200      404   200  GET    /resources/{resource_id}/working-hours
 401    403    403    403   403   200   200      404   200  PUT    /resources/{resource_id}/working-hours  manage_bookings
 401    403    403    200   200     -   200      404   200  GET    /resources/{resource_id}/calendar
 401    403    403    200   200     -   200      404   200  GET    /resources/{resource_id}/busy-calendar
 401    403    403    403   403   200   200      404   200  PUT    /resources/{resource_id}/busy-calendar  manage_bookings
 401    403    403    403   403   200   200      404   200  DELETE /resources/{resource_id}/busy-calendar  manage_bookings
 401    403    403    200   200     -   200      404   200  GET    /closures
 401    403    403    403   403   201   201      404   201  POST   /closures  manage_bookings
 401    403    403    403   403   200   200      404   200  POST   /closures/holidays  manage_bookings
 401    403    403    403   403   200   200      404   200  DELETE /closures/{closure_id}  manage_bookings
 401    200    200    200   200     -   200      404   200  GET    /classes
 401    403    403    403   403   201   201      404   201  POST   /classes  manage_bookings
 401    200    200    200   200     -   200      404   200  GET    /classes/{class_id}
 401    403    403    403   403   200   200      404   200  PUT    /classes/{class_id}  manage_bookings
 401    403    403    200   200     -   200      404   200  GET    /session-series
 401    403    403    403   403   201   201      404   201  POST   /session-series  manage_bookings
 401    403    403    200   200     -   200      404   200  GET    /session-series/{series_id}
 401    403    403    403   403   200   200      404   200  PUT    /session-series/{series_id}  manage_bookings
 401    403    403    403   403   200   200      404   200  POST   /session-series/{series_id}/end  manage_bookings
 401    200    200    200   200     -   200      404   200  GET    /sessions
 401    403    403    403   403   201   201      404   201  POST   /sessions  manage_bookings
 401    403    403    200   403   200   200      404   200  GET    /reservations  manage_bookings

anon client neighb therap staff  with owner stranger admin  /api/organizations/{organization_id}/vouchers
 401    403    403    403   403   200   200      404   200  GET      manage_vouchers
 401    403    403    403   403   201   201      404   201  POST     manage_vouchers

anon client neighb therap staff  with owner stranger admin  /api/payments
 401    200    200    200   200     -   200      200   200  GET    /my
 401    200    200    200   200     -   200      404   200  GET    /methods
 401    201    201    201   201     -   201      404   201  POST   /saved-cards
 401    200    200    200   200     -   200      200   200  GET    /saved-cards
 401    409    404    404   404   403   403      404   403  POST   /saved-cards/{card_id}/confirm  view_payments manage_payments
 401    204    404    404   404   403   403      404   403  DELETE /saved-cards/{card_id}  view_payments manage_payments
 401    200    404    404   404   200   200      404   200  GET    /{payment_id}  view_payments manage_payments
 401    200    404    404   404   403   403      404   403  POST   /{payment_id}/confirm  view_payments manage_payments
 401    200    404    404   404   200   200      404   200  GET    /{payment_id}/invoice  view_payments manage_payments
 401    200    404    404   404   200   200      404   200  GET    /{payment_id}/credit-notes  view_payments manage_payments
 401    200    404    404   404   200   200      404   200  GET    /{payment_id}/credit-notes/{number}  view_payments manage_payments
 400    400    400    400   400     -   400      400   400  POST   /webhooks/{gateway_name}
 400    400    400    400   400     -   400      400   400  POST   /webhooks/{gateway_name}/connect

anon client neighb therap staff  with owner stranger admin  /api/organizations/{organization_id}/payments
 401    403    403    403   403   200   200      404   200  GET      view_payments manage_payments
 401    403    403    403   403   200   200      404   200  GET    /totals  view_payments manage_payments
 401    403    403    403   403   200   200      404   200  GET    /disputes  view_payments manage_payments
 401    403    403    403   403   200   200      404   200  GET    /repayments  view_payments manage_payments
 401    403    403    403   403   200   200      404   200  POST   /repayments/{repayment_id}/settle  manage_payments
 401    403    403    403   403   200   200      404   200  POST   /{payment_id}/mark-paid  manage_payments
 401    403    403    403   403   200   200      404   200  GET    /saved-cards  view_payments manage_payments
 401    403    403    403   403   204   204      404   204  DELETE /saved-cards/{card_id}  manage_payments
 401    403    403    403   403   200   200      404   200  GET    /{payment_id}/refunds  view_payments manage_payments
 401    403    403    403   403   201   201      404   201  POST   /{payment_id}/refunds  manage_payments

anon client neighb therap staff  with owner stranger admin  /api/organizations/{organization_id}/payment-account
 401    403    403    403   403   409   409      404   409  GET      view_payments manage_payments
 401    403    403    403   403   409   409      404   409  POST     manage_payments
 401    403    403    403   403   409   409      404   409  DELETE   manage_payments

anon client neighb therap staff  with owner stranger admin  /api/organizations/{organization_id}/invoices
 401    403    403    403   403   200   200      404   200  GET      view_payments manage_payments
 401    403    403    403   403   200   200      404   200  GET    /gaps  view_payments manage_payments
 401    403    403    403   403   200   200      404   200  GET    /{invoice_id}  view_payments manage_payments

anon client neighb therap staff  with owner stranger admin  /api/organizations/{organization_id}/payouts
 401    403    403    403   403   409   409      404   409  GET      view_payments manage_payments
 401    403    403    403   403   409   409      404   409  GET    /statement  view_payments manage_payments
 401    403    403    403   403   409   409      404   409  GET    /{payout_id}  view_payments manage_payments

anon client neighb therap staff  with owner stranger admin  /api/organizations/{organization_id}/platform-fee
 401    403    403    403   403   200   200      404   200  GET      view_payments manage_payments
 401    403    403    403   403     -   403      404   200  PUT

anon client neighb therap staff  with owner stranger admin  /api/admin/audit-logs
 401    403    403    403   403     -   403      403   200  GET
 401    403    403    403   403     -   403      403   200  GET    /export
 401    403    403    403   403     -   403      403   200  GET    /verify

anon client neighb therap staff  with owner stranger admin  /api/organizations/{organization_id}/audit-logs
 401    403    403    403   403   200   200      404   200  GET      view_audit_logs
 401    403    403    403   403   200   200      404   200  GET    /export  view_audit_logs
 401    403    403    403   403   200   200      404   200  GET    /verify  view_audit_logs
"""  # noqa: E501 - a table is read across
COLUMNS = ("anon", "client", "neighb", "therap", "staff", "with", "owner", "stranger", "admin")


@dataclass(frozen=True)
class Row:
    """One operation, the statuses by column, and the permissions that open it to staff."""

    operation: str
    statuses: dict[str, int]
    permissions: frozenset[str]

    def __str__(self) -> str:
        return self.operation

    def tries(self, cast: Cast) -> list[tuple[Caller, int]]:
        """Return each caller with the expected status."""
        people = (cast.anonymous, cast.client, cast.neighbour, cast.therapist, cast.staff)
        columns = ("anon", "client", "neighb", "therap", "staff", "owner", "stranger", "admin")
        everybody = zip(columns, (*people, cast.owner, cast.stranger, cast.admin), strict=True)
        tries = [(caller, self.statuses[column]) for column, caller in everybody]
        for permission in PERMISSIONS:
            column = "with" if permission in self.permissions else "staff"
            tries.append((cast.granted[permission], self.statuses[column]))
        return tries

    def names(self, *parameters: str) -> bool:
        """Return whether the path has one of these parameters."""
        return any(f"{{{parameter}}}" in self.operation for parameter in parameters)


def _rows(table: str) -> list[Row]:
    rows: list[Row] = []
    prefix = ""
    for line in filter(None, table.splitlines()):
        *cells, rest = line.split(maxsplit=len(COLUMNS))
        if tuple(cells) == COLUMNS:
            prefix = rest
        else:
            rows.append(_row(prefix, cells, rest.split()))
    return rows


def _row(prefix: str, cells: list[str], rest: list[str]) -> Row:
    method, *words = rest
    path = prefix + "".join(word for word in words if word.startswith("/"))
    named = {word for word in words if not word.startswith("/")}
    assert named <= set(PERMISSIONS), named
    statuses = {c: int(cell) for c, cell in zip(COLUMNS, cells, strict=True) if cell != "-"}
    return Row(f"{method} {path}", statuses, frozenset(named | {"all"} if named else named))


ROWS = _rows(TABLE)
CHANGE_PASSWORD = "PUT /api/auth/password"
SIGN_OUT_EVERYWHERE = "DELETE /api/auth/sessions"


async def test_the_table_has_every_operation(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    assert "x-incomplete" not in document
    documented = {
        f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item
    }
    assert documented == {row.operation for row in ROWS}
    assert len(ROWS) == len(documented), "one row for each"


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_everybody_tries(row: Row, scene: Scene) -> None:
    tries = row.tries(scene.cast)
    answers = await asyncio.gather(*(_try(row, scene, *one) for one in tries))
    if row.operation == SIGN_OUT_EVERYWHERE:
        await scene.cast.sign_in()
    outcome = zip(tries, answers, strict=True)
    wrong = {
        caller.name: f"{answer.status_code} instead of {expected}: {answer.text[:200]}"
        for (caller, expected), answer in outcome
        if answer.status_code != expected
    }
    assert wrong == {}
    for answer in answers:
        _check_refusal(answer)


async def _try(row: Row, scene: Scene, caller: Caller, expected: int) -> httpx.Response:
    ids = scene.standing
    if expected < 300:
        ids = await fresh_ids(row.operation, scene, caller)
    request = request_of(row.operation, scene, caller, ids)
    answer = await caller.send(request.method, request.path, **request.options)
    if row.operation == CHANGE_PASSWORD and answer.is_success:
        caller.password = request.options["json"]["new_password"]
    return answer


def _check_refusal(answer: httpx.Response) -> None:
    """A refusal has the form of all errors and states how to sign in, or that it is forbidden."""
    if answer.status_code < 400:
        return
    assert answer.headers["content-type"] == "application/problem+json"
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if answer.status_code == 403:
        assert answer.json()["detail"].startswith("Not authorized")
