"""For every operation a valid request, which only its caller may make forbidden.

So the answer depends on the caller alone. Where success uses something up, `consumes` makes one
more of it for each caller who should succeed; the others try the existing one.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.api_client import unique
from deploy.tests.stack.tenancy.cast import OTHER_PASSWORD, PASSWORD, Caller
from deploy.tests.stack.tenancy.scene import VOUCHER_TYPE, Ids, Scene, saved_card_of

Body = Callable[[Scene, Caller, Ids], Any]
Consumed = Callable[[Scene, Caller], Awaitable[Ids]]
Query = Callable[[Ids], dict[str, Any]]

_PARAMETER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Recipe:
    """How a request is made: its body, what its success consumes, the body's form, the query."""

    body: Body | None = None
    consumes: Consumed | None = None
    form: bool = False
    query: Query | None = None


@dataclass(frozen=True)
class Request:
    """A request that was not sent yet."""

    method: str
    template: str
    ids: Ids
    options: dict[str, Any]

    @property
    def path(self) -> str:
        """The template with its ids in place."""
        return path_of(self.template, self.ids)


def path_of(template: str, ids: Ids) -> str:
    """Put ids in the place of a path's parameters."""
    return _PARAMETER.sub(lambda match: str(ids[match[1]]), template)


async def fresh_ids(operation: str, scene: Scene, caller: Caller) -> Ids:
    """Return the permanent ids, with a new one of each thing that the operation consumes."""
    consumes = RECIPES.get(operation, Recipe()).consumes
    return scene.standing | (await consumes(scene, caller) if consumes else {})


def request_of(operation: str, scene: Scene, caller: Caller, ids: Ids) -> Request:
    """Make the request by which a caller tries an operation on the objects with these ids."""
    method, template = operation.split()
    recipe = RECIPES.get(operation, Recipe())
    options: dict[str, Any] = {}
    if recipe.query is not None:
        options["params"] = recipe.query(ids)
    if recipe.body is not None:
        options["data" if recipe.form else "json"] = recipe.body(scene, caller, ids)
    return Request(method, template, ids, options)


def _new_user(role: str) -> Body:
    return lambda _scene, _caller, _ids: {
        "email": f"{unique('new')}@example.com",
        "name": "New",
        "password": PASSWORD,
        "role": role,
    }


def _constant(**body: Any) -> Body:
    return lambda _scene, _caller, _ids: body


def _credentials(scene: Scene, _caller: Caller, _ids: Ids) -> dict[str, str]:
    return {"email": scene.cast.client.email, "password": scene.cast.client.password}


def _password_form(scene: Scene, _caller: Caller, _ids: Ids) -> dict[str, str]:
    return {"username": scene.cast.client.email, "password": scene.cast.client.password}


def _change_of_password(_scene: Scene, caller: Caller, _ids: Ids) -> dict[str, str]:
    new = OTHER_PASSWORD if caller.password == PASSWORD else PASSWORD
    return {"current_password": caller.password, "new_password": new}


def _own_password(_scene: Scene, caller: Caller, _ids: Ids) -> dict[str, str]:
    return {"password": caller.password}


def _refresh_token(_scene: Scene, _caller: Caller, ids: Ids) -> dict[str, str]:
    return {"refresh_token": ids["refresh_token"]}


def _registration(_scene: Scene, _caller: Caller, _ids: Ids) -> dict[str, str]:
    return {"email": f"{unique('self')}@example.com", "name": "Self", "password": PASSWORD}


def _any_address(_scene: Scene, _caller: Caller, _ids: Ids) -> dict[str, str]:
    return {"email": f"{unique('nobody')}@example.com"}


def _new_address(_scene: Scene, caller: Caller, _ids: Ids) -> dict[str, str]:
    email = f"{unique('moved')}@example.com"
    return {"email": email, "current_password": caller.password}


def _founding(_scene: Scene, _caller: Caller, _ids: Ids) -> dict[str, str]:
    return {
        "name": unique("Practice"),
        "owner_email": f"{unique('founder')}@example.com",
        "owner_name": "Founder",
        "owner_password": PASSWORD,
    }


def _purchase(scene: Scene, caller: Caller, ids: Ids) -> dict[str, Any]:
    body = {"voucher_type_id": ids["voucher_type_id"], "payment_method": "cash"}
    return {**body, "client_id": ids["client_id"]} if caller is scene.cast.admin else body


def _issue(_scene: Scene, _caller: Caller, ids: Ids) -> dict[str, Any]:
    named = {name: ids[name] for name in ("client_id", "voucher_type_id")}
    return {**named, "payment_method": "cash"}


def _from_quote(_scene: Scene, _caller: Caller, ids: Ids) -> dict[str, Any]:
    return {"quote_id": ids["quote_id"]}


def _transfer(scene: Scene, _caller: Caller, _ids: Ids) -> dict[str, Any]:
    return {"client_id": scene.cast.neighbour.id, "sessions": 1, "reason": "A sister"}


def _extension(_scene: Scene, _caller: Caller, _ids: Ids) -> dict[str, str]:
    later = datetime.now(UTC).date() + timedelta(days=5000)
    return {"valid_until": str(later), "reason": "Illness"}


def _organization(ids: Ids) -> dict[str, Any]:
    return {"organization_id": ids["organization_id"]}


def _days(_ids: Ids) -> dict[str, str]:
    first = datetime.now(UTC).date() + timedelta(days=2)
    return {"from": str(first), "until": str(first + timedelta(days=6))}


def _feed(_scene: Scene, _caller: Caller, ids: Ids) -> dict[str, Any]:
    return {"organization_id": ids["organization_id"]}


def _stretch(_ids: Ids) -> dict[str, str]:
    first = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    until = first + timedelta(days=6)
    return {"from": first.isoformat(), "until": until.isoformat()}


def _of_session(_scene: Scene, _caller: Caller, ids: Ids) -> dict[str, Any]:
    return {"session_id": ids["class_session_id"]}


def _to_another_session(_scene: Scene, _caller: Caller, ids: Ids) -> dict[str, Any]:
    return {"session_id": ids["new_session_id"]}


def _marks(_scene: Scene, _caller: Caller, ids: Ids) -> dict[str, Any]:
    return {"marks": [{"reservation_id": ids["reservation_id"], "status": "attended"}]}


def _new_room(_scene: Scene, _caller: Caller, _ids: Ids) -> dict[str, Any]:
    return {"kind": "room", "name": unique("Room")}


def _new_session(_scene: Scene, _caller: Caller, _ids: Ids) -> dict[str, Any]:
    starts_at = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(days=3)
    return {"starts_at": starts_at.isoformat(), "duration_minutes": 60}


def _new_series(_scene: Scene, _caller: Caller, ids: Ids) -> dict[str, Any]:
    first = datetime.now(UTC).date() + timedelta(days=3)
    dates = {"first_date": str(first), "last_date": str(first + timedelta(days=6))}
    return {"therapy_class_id": ids["class_id"], "weekdays": [1], "start_time": "10:00", **dates}


def _moved_series(_scene: Scene, _caller: Caller, _ids: Ids) -> dict[str, Any]:
    first = datetime.now(UTC).date() + timedelta(days=3)
    return {"from": str(first), "start_time": "11:00"}


def _weekly(_scene: Scene, _caller: Caller, _ids: Ids) -> dict[str, Any]:
    first = datetime.now(UTC).date() + timedelta(days=3)
    return {"first_date": str(first), "weekdays": [1], "start_time": "10:00", "dry_run": True}


_CLOSURE = {"starts_local": "2040-01-01T00:00", "ends_local": "2040-01-02T00:00"}


async def _own_session(scene: Scene, caller: Caller) -> Ids:
    return await scene.session(caller)


async def _session_of_the_client(scene: Scene, _caller: Caller) -> Ids:
    return await scene.session(scene.cast.client)


_ORGANIZATION = "/api/organizations/{organization_id}"
_USER = f"{_ORGANIZATION}/users/{{user_id}}"
_TYPE = f"{_ORGANIZATION}/voucher-types/{{voucher_type_id}}"
_VOUCHER = "/api/vouchers/{voucher_id}"
_RESERVATION = "/api/reservations/{reservation_id}"
_SESSION = "/api/sessions/{class_session_id}"
_RESOURCE = f"{_ORGANIZATION}/resources/{{resource_id}}"
_SERIES = f"{_ORGANIZATION}/session-series/{{series_id}}"
_PAYMENT = f"{_ORGANIZATION}/payments/{{payment_id}}"


def _saved_card(_scene: Scene, _caller: Caller, ids: Ids) -> dict[str, Any]:
    return saved_card_of(ids["organization_id"])


_OF_NEW_CARD = Recipe(consumes=lambda scene, _: scene.saved_card())

RECIPES: dict[str, Recipe] = {
    "POST /api/auth/register": Recipe(_registration),
    "POST /api/auth/login": Recipe(_credentials),
    "POST /api/auth/token": Recipe(_password_form, form=True),
    "POST /api/auth/refresh": Recipe(_refresh_token, _session_of_the_client),
    "POST /api/auth/logout": Recipe(_refresh_token, _session_of_the_client),
    "POST /api/auth/password-reset": Recipe(_any_address),
    "POST /api/auth/password-reset/confirm": Recipe(_constant(token="never", password=PASSWORD)),
    "PUT /api/auth/address": Recipe(_new_address),
    "POST /api/auth/address/confirm": Recipe(_constant(token="never")),
    "POST /api/auth/invitation/accept": Recipe(_constant(token="never", password=PASSWORD)),
    "POST /api/auth/links/renew": Recipe(_constant(token="never")),
    "POST /api/auth/login/second-factor": Recipe(_constant(mfa_token="never", code="000000")),
    "POST /api/auth/login/second-factor/setup": Recipe(_constant(mfa_token="never")),
    "POST /api/auth/reauthenticate": Recipe(_own_password),
    "POST /api/auth/second-factor/confirm": Recipe(_constant(code="never1")),
    "PUT /api/auth/me": Recipe(_constant(phone="+48 22 555 01 02")),
    "PUT /api/auth/password": Recipe(_change_of_password),
    "DELETE /api/auth/sessions/{session_id}": Recipe(consumes=_own_session),
    "POST /api/auth/dependants": Recipe(_constant(name="Child")),
    "PUT /api/auth/dependants/{dependant_id}": Recipe(_constant(name="Grown child")),
    "DELETE /api/auth/dependants/{dependant_id}": Recipe(
        consumes=lambda scene, _: scene.dependant()
    ),
    f"POST {_USER}/dependants": Recipe(
        _constant(name="Child"), lambda scene, _: scene.member("client")
    ),
    f"PUT {_USER}/dependants/{{dependant_id}}": Recipe(
        _constant(name="Grown child"), lambda scene, _: scene.dependant()
    ),
    f"DELETE {_USER}/dependants/{{dependant_id}}": Recipe(
        consumes=lambda scene, _: scene.dependant()
    ),
    "POST /api/admin/users": Recipe(_new_user("admin")),
    "PUT /api/admin/users/{user_id}": Recipe(_constant(name="Renamed")),
    "DELETE /api/admin/users/{user_id}": Recipe(consumes=lambda scene, _: scene.member()),
    "PUT /api/admin/users/{user_id}/password": Recipe(
        _constant(password=PASSWORD), lambda scene, _: scene.member()
    ),
    "POST /api/admin/users/{user_id}/approve": Recipe(consumes=lambda scene, _: scene.registered()),
    "DELETE /api/admin/users/{user_id}/second-factor": Recipe(
        consumes=lambda scene, _: scene.member_with_factor()
    ),
    f"DELETE {_USER}/second-factor": Recipe(consumes=lambda scene, _: scene.member_with_factor()),
    "POST /api/admin/users/{user_id}/invitation": Recipe(consumes=lambda scene, _: scene.invited()),
    "DELETE /api/admin/users/{user_id}/invitation": Recipe(
        consumes=lambda scene, _: scene.invited()
    ),
    "POST /api/admin/organizations": Recipe(_founding),
    "PUT /api/admin/organizations/{organization_id}": Recipe(_constant(address="Beach Road 1")),
    "DELETE /api/admin/organizations/{organization_id}": Recipe(
        consumes=lambda scene, _: scene.organization()
    ),
    f"PUT {_ORGANIZATION}": Recipe(_constant(address="Beach Road 2")),
    f"POST {_ORGANIZATION}/users": Recipe(_new_user("client")),
    # The standing user holds a permission that the managers in this table do not hold.
    f"PUT {_USER}": Recipe(_constant(name="Renamed"), consumes=lambda scene, _: scene.member()),
    f"DELETE {_USER}": Recipe(consumes=lambda scene, _: scene.member()),
    f"POST {_USER}/approve": Recipe(consumes=lambda scene, _: scene.registered()),
    f"POST {_USER}/invitation": Recipe(consumes=lambda scene, _: scene.invited()),
    f"DELETE {_USER}/invitation": Recipe(consumes=lambda scene, _: scene.invited()),
    f"POST {_USER}/permissions": Recipe(
        _constant(permission="view_payments"), lambda scene, _: scene.member()
    ),
    f"DELETE {_USER}/permissions/{{permission}}": Recipe(
        consumes=lambda scene, _: scene.member_with_permission()
    ),
    f"POST {_ORGANIZATION}/voucher-types": Recipe(_constant(**VOUCHER_TYPE)),
    f"PUT {_TYPE}": Recipe(_constant(description="For adults.")),
    f"DELETE {_TYPE}": Recipe(consumes=lambda scene, _: scene.voucher_type()),
    f"PUT {_TYPE}/deactivate": Recipe(consumes=lambda scene, _: scene.voucher_type()),
    f"PUT {_TYPE}/activate": Recipe(consumes=lambda scene, _: scene.voucher_type()),
    "POST /api/vouchers/purchase": Recipe(_purchase),
    f"PUT {_VOUCHER}": Recipe(_constant(notes="Prefers mornings.")),
    f"POST {_VOUCHER}/cancel": Recipe(_constant(), lambda scene, _: scene.unpaid()),
    f"POST {_VOUCHER}/refund-quote": Recipe(_constant(sessions=1)),
    f"POST {_VOUCHER}/refunds": Recipe(_from_quote, lambda scene, _: scene.quoted()),
    f"POST {_ORGANIZATION}/vouchers": Recipe(_issue),
    f"POST {_VOUCHER}/redemptions": Recipe(_constant(kind="regular")),
    f"POST {_VOUCHER}/redemptions/{{redemption_id}}/reverse": Recipe(
        consumes=lambda scene, _: scene.redemption()
    ),
    f"POST {_VOUCHER}/freezes": Recipe(lambda scene, _caller, _ids: scene.pause()),
    f"POST {_VOUCHER}/transfers": Recipe(_transfer, lambda scene, _: scene.active()),
    f"POST {_VOUCHER}/returns": Recipe(
        _constant(reason="Moves away"), lambda scene, _: scene.received()
    ),
    f"POST {_VOUCHER}/extensions": Recipe(_extension, lambda scene, _: scene.active()),
    f"POST {_VOUCHER}/adjustments/{{adjustment_id}}/reverse": Recipe(
        consumes=lambda scene, _: scene.adjustment()
    ),
    "GET /api/payments/methods": Recipe(query=_organization),
    f"POST {_ORGANIZATION}/payment-account": Recipe(
        _constant(return_url="https://console.example/payments")
    ),
    "GET /api/voucher-types/{voucher_type_id}/slots": Recipe(query=_days),
    f"GET {_VOUCHER}/slots": Recipe(query=_days),
    f"GET {_VOUCHER}/slot-days": Recipe(query=_days),
    f"POST {_VOUCHER}/eligibility": Recipe(_of_session),
    f"POST {_VOUCHER}/reservations": Recipe(_of_session, lambda scene, _: scene.bookable()),
    f"POST {_RESERVATION}/confirm": Recipe(consumes=lambda scene, _: scene.held()),
    f"POST {_VOUCHER}/reservations/series": Recipe(_weekly),
    f"POST {_RESERVATION}/cancel": Recipe(_constant(), lambda scene, _: scene.reservation()),
    f"POST {_RESERVATION}/reschedule": Recipe(
        _to_another_session, lambda scene, _: scene.movable()
    ),
    "POST /api/calendar-feeds": Recipe(_feed),
    "DELETE /api/calendar-feeds/{feed_id}": Recipe(
        consumes=lambda scene, caller: scene.feed(caller)
    ),
    f"PUT {_SESSION}": Recipe(_constant(notes="Bring a mat.")),
    f"POST {_SESSION}/cancel": Recipe(_constant(), lambda scene, _: scene.class_session()),
    f"PUT {_SESSION}/attendance": Recipe(_marks),
    f"PUT {_ORGANIZATION}/booking-settings": Recipe(_constant(feed_names=False)),
    f"POST {_ORGANIZATION}/resources": Recipe(_new_room),
    f"PUT {_RESOURCE}": Recipe(_constant(buffer_after_minutes=0)),
    f"PUT {_RESOURCE}/working-hours": Recipe(_constant(hours=[])),
    f"GET {_RESOURCE}/calendar": Recipe(query=_stretch),
    f"PUT {_RESOURCE}/busy-calendar": Recipe(
        _constant(address="https://calendar.example.org/private.ics"),
        lambda scene, _: scene.room(),
    ),
    f"DELETE {_RESOURCE}/busy-calendar": Recipe(
        consumes=lambda scene, _: scene.room_with_calendar()
    ),
    f"POST {_ORGANIZATION}/closures": Recipe(_constant(**_CLOSURE)),
    f"POST {_ORGANIZATION}/closures/holidays": Recipe(_constant(country="PL", year=2040)),
    f"DELETE {_ORGANIZATION}/closures/{{closure_id}}": Recipe(
        consumes=lambda scene, _: scene.closure()
    ),
    f"POST {_ORGANIZATION}/classes": Recipe(_constant(name="Yoga")),
    f"PUT {_ORGANIZATION}/classes/{{class_id}}": Recipe(_constant(description="For adults.")),
    f"POST {_ORGANIZATION}/session-series": Recipe(_new_series),
    f"PUT {_SERIES}": Recipe(_moved_series, lambda scene, _: scene.series()),
    f"POST {_SERIES}/end": Recipe(_constant(), lambda scene, _: scene.series()),
    f"GET {_ORGANIZATION}/sessions": Recipe(query=_stretch),
    f"POST {_ORGANIZATION}/sessions": Recipe(_new_session),
    "POST /api/payments/{payment_id}/confirm": Recipe(
        _constant(payment_token="pm_card_visa"), lambda scene, _: scene.unpaid("credit_card")
    ),
    "POST /api/payments/saved-cards": Recipe(_saved_card),
    "DELETE /api/payments/saved-cards/{card_id}": _OF_NEW_CARD,
    f"DELETE {_ORGANIZATION}/payments/saved-cards/{{card_id}}": _OF_NEW_CARD,
    "POST /api/payments/webhooks/{gateway_name}": Recipe(_constant(id="evt_1", object="event")),
    "POST /api/payments/webhooks/{gateway_name}/connect": Recipe(
        _constant(id="evt_1", object="event")
    ),
    f"POST {_PAYMENT}/mark-paid": Recipe(_constant(), lambda scene, _: scene.unpaid()),
    f"PUT {_ORGANIZATION}/platform-fee": Recipe(_constant(percent=2.5)),
    f"POST {_ORGANIZATION}/payments/repayments/{{repayment_id}}/settle": Recipe(
        _constant(note="In cash"), lambda scene, _: scene.repayment()
    ),
    f"POST {_PAYMENT}/refunds": Recipe(_constant(amount=1)),
}
"""Operations without a recipe need no body and use nothing up."""
