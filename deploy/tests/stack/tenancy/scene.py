"""The objects of an organization, and new ones where a request uses them up."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx
from pyotp import TOTP

from deploy.api_client import Person, unique
from deploy.local.stack import WEBHOOK_PATH, Stack
from deploy.proof.chaos.disputes import signed
from deploy.tests.stack.tenancy.cast import PASSWORD, Caller, Cast, assemble
from shared.testing import until

Ids = dict[str, Any]

VOUCHER_TYPE = {
    "name": "A hundred sessions",
    "total_sessions": 100,
    "backup_sessions": 10,
    "price": 399.99,
    "validity_days": 3650,
}


def saved_card_of(organization_id: int) -> dict[str, Any]:
    """Return the body with which a card is stored."""
    return {
        "organization_id": organization_id,
        "payment_token": "pm_card_visa",
        "mandate_text": "The organization may charge this card for what I agree to.",
    }


@dataclass
class Scene:
    """The first organization's objects, by the names that paths have for them.

    `standing` are there all the time. The methods make one more, for a request that consumes it.
    """

    cast: Cast
    standing: Ids
    webhook_secret: str

    def __post_init__(self) -> None:
        self._days = count(30)
        self._starts = count()

    @property
    def here(self) -> str:
        """The path of the organization."""
        return f"/api/organizations/{self.cast.owner.organization_id}"

    async def member(self, role: str = "staff") -> Ids:
        """One more user of the organization."""
        body = {
            "email": f"{unique('member')}@example.com",
            "name": "Member",
            "password": PASSWORD,
            "role": role,
        }
        answer = await self.cast.owner.call("POST", f"{self.here}/users", body, expect=201)
        return {"user_id": answer["id"]}

    async def member_with_factor(self) -> Ids:
        """One more user of the organization, who has set up a second factor."""
        owner = self.cast.owner
        email = f"{unique('factor')}@example.com"
        body = {"email": email, "name": "Careful", "password": PASSWORD, "role": "staff"}
        answer = await owner.call("POST", f"{self.here}/users", body, expect=201)
        member = Caller(api=owner.api, name="careful", email=email, password=PASSWORD)
        await member.sign_in()
        setup = await member.call("POST", "/api/auth/second-factor", expect=201)
        code = {"code": TOTP(setup["secret"]).now()}
        await member.call("POST", "/api/auth/second-factor/confirm", code)
        return {"user_id": answer["id"]}

    async def member_with_permission(self) -> Ids:
        """One more user, with the permission that the standing objects name."""
        ids = await self.member()
        body = {"permission": self.standing["permission"]}
        path = f"{self.here}/users/{ids['user_id']}/permissions"
        await self.cast.owner.call("POST", path, body, expect=201)
        return ids

    async def dependant(self) -> Ids:
        """One more dependant of the client."""
        client = self.cast.client
        path = f"{self.here}/users/{client.id}/dependants"
        answer = await self.cast.owner.call("POST", path, {"name": "Child"}, expect=201)
        return {"user_id": client.id, "dependant_id": answer["id"]}

    async def registered(self) -> Ids:
        """One more user who awaits approval."""
        owner = self.cast.owner
        slug = (await owner.call("GET", self.here))["slug"]
        email = f"{unique('registered')}@example.com"
        body = {
            "email": email,
            "name": "Registered",
            "password": PASSWORD,
            "organization_slug": slug,
        }
        await self.cast.anonymous.call("POST", "/api/auth/register", body, expect=201)
        [user] = await owner.call("GET", f"{self.here}/users", params={"q": email})
        return {"user_id": user["id"]}

    async def invited(self) -> Ids:
        """One more user who has not accepted the invitation."""
        body = {"email": f"{unique('invited')}@example.com", "role": "client"}
        answer = await self.cast.owner.call("POST", f"{self.here}/users", body, expect=201)
        return {"user_id": answer["id"]}

    async def organization(self) -> Ids:
        """One more organization."""
        body = {
            "name": unique("Practice"),
            "owner_email": f"{unique('founder')}@example.com",
            "owner_name": "Founder",
            "owner_password": PASSWORD,
        }
        admin = self.cast.admin
        answer = await admin.call("POST", "/api/admin/organizations", body, expect=201)
        return {"organization_id": answer["id"]}

    async def voucher_type(self) -> Ids:
        """One more voucher type, of which no voucher was sold."""
        answer = await self.cast.owner.call(
            "POST", f"{self.here}/voucher-types", VOUCHER_TYPE, expect=201
        )
        return {"voucher_type_id": answer["id"]}

    async def unpaid(self, method: str = "cash") -> Ids:
        """One more voucher of the client's that waits for its money."""
        return await self._bought(payment_method=method)

    async def active(self) -> Ids:
        """One more voucher of the client's that is paid."""
        return await self._bought(payment_method="credit_card", payment_token="pm_card_visa")

    async def _bought(self, **how: str) -> Ids:
        body = {"voucher_type_id": self.standing["voucher_type_id"], **how}
        answer = await self.cast.client.call("POST", "/api/vouchers/purchase", body, expect=201)
        return {"voucher_id": answer["id"], "payment_id": answer["payment"]["transaction_id"]}

    async def quoted(self) -> Ids:
        """One more voucher that is paid, with a quote of what it would bring back."""
        ids = await self.active()
        path = f"/api/vouchers/{ids['voucher_id']}/refund-quote"
        answer = await self.cast.owner.call("POST", path, expect=201)
        return {**ids, "quote_id": answer["id"]}

    async def repayment(self) -> Ids:
        """One more payment whose refund came back from the payer's bank: staff must give it back.

        The card gateway of tests has no such refunds, so its events are written here, as
        https://docs.stripe.com/refunds#failed-refunds describes them.
        """
        ids = await self.active()
        payment = f"/api/payments/{ids['payment_id']}"
        paid = await self.cast.owner.call("GET", payment)
        refund = {
            "id": unique("re"),
            "object": "refund",
            "amount": 100,
            "currency": paid["currency"].lower(),
            "payment_intent": paid["gateway_transaction_id"],
        }

        async def refunded() -> bool:
            return bool((await self.cast.owner.call("GET", payment))["refunded_amount"])

        async def due() -> list[int]:
            path = f"{self.here}/payments/repayments?status=due"
            rows = await self.cast.owner.call("GET", path)
            return [row["id"] for row in rows if row["transaction_id"] == ids["payment_id"]]

        await self._deliver("refund.updated", {**refund, "status": "succeeded"})
        await until(refunded)
        await self._deliver("refund.failed", {**refund, "status": "failed"})

        async def is_due() -> bool:
            return bool(await due())

        await until(is_due)
        return {**ids, "repayment_id": (await due())[0]}

    async def saved_card(self) -> Ids:
        """One more card that the client stores with the organization."""
        body = saved_card_of(self.standing["organization_id"])
        card = await self.cast.client.call("POST", "/api/payments/saved-cards", body, expect=201)
        return {"card_id": card["id"]}

    async def _deliver(self, kind: str, content: dict[str, Any]) -> None:
        event = {
            "id": unique("evt"),
            "object": "event",
            "type": kind,
            "created": int(time.time()),
            "livemode": False,
            "data": {"object": content},
        }
        body = json.dumps(event).encode()
        headers = {
            "Content-Type": "application/json",
            "Stripe-Signature": signed(body, self.webhook_secret),
        }
        answer = await self.cast.anonymous.api.post(WEBHOOK_PATH, content=body, headers=headers)
        assert answer.status_code == 200, answer.text

    async def redemption(self) -> Ids:
        """One more session spent from the standing voucher."""
        path = f"/api/vouchers/{self.standing['voucher_id']}/redemptions"
        answer = await self.cast.owner.call("POST", path, {"kind": "regular"}, expect=201)
        return {"redemption_id": answer["id"]}

    def pause(self) -> dict[str, str]:
        """A day of its own on which the standing voucher can be frozen."""
        day = str((datetime.now(UTC) + timedelta(days=2 * next(self._days))).date())
        return {"starts_on": day, "ends_on": day, "reason": "Holiday"}

    async def adjustment(self) -> Ids:
        """One more freeze of the standing voucher."""
        path = f"/api/vouchers/{self.standing['voucher_id']}/freezes"
        answer = await self.cast.owner.call("POST", path, self.pause(), expect=201)
        return {"adjustment_id": answer["id"]}

    async def received(self) -> Ids:
        """One more voucher of the neighbour's, with a session of the client's."""
        path = f"/api/vouchers/{(await self.active())['voucher_id']}/transfers"
        body = {"client_id": self.cast.neighbour.id, "sessions": 1, "reason": "A sister"}
        answer = await self.cast.owner.call("POST", path, body, expect=201)
        return {"voucher_id": answer["other_voucher_id"]}

    async def class_session(self) -> Ids:
        """One more session of the therapist, at a time of its own."""
        number = next(self._starts)
        day = datetime.now(UTC) + timedelta(days=3 + number % 40)
        starts_at = day.replace(hour=6 + number // 40, minute=0, second=0, microsecond=0)
        body = {
            "starts_at": starts_at.isoformat(),
            "duration_minutes": 60,
            "therapist_id": self.cast.therapist.id,
        }
        session = await self.cast.owner.call("POST", f"{self.here}/sessions", body, expect=201)
        return {"class_session_id": session["id"]}

    async def bookable(self) -> Ids:
        """One more session, and a voucher of the client's that can book it."""
        voucher = await self.active()
        return {**await self.class_session(), "voucher_id": voucher["voucher_id"]}

    async def reservation(self) -> Ids:
        """One more session that the client has booked."""
        ids = await self.bookable()
        path = f"/api/vouchers/{ids['voucher_id']}/reservations"
        body = {"session_id": ids["class_session_id"]}
        reservation = await self.cast.client.call("POST", path, body, expect=201)
        return {"reservation_id": reservation["id"], "class_session_id": reservation["session_id"]}

    async def held(self) -> Ids:
        """One more session that is held for the client, who may hold only three at once."""
        ids = await self.bookable()
        path = f"/api/vouchers/{ids['voucher_id']}/reservations"
        body = {"session_id": ids["class_session_id"], "hold": True}
        answers: list[httpx.Response] = []

        async def is_held() -> bool:
            answers.append(await self.cast.client.send("POST", path, json=body))
            return answers[-1].is_success

        await until(is_held)
        reservation = answers[-1].json()
        return {"reservation_id": reservation["id"], "class_session_id": reservation["session_id"]}

    async def movable(self) -> Ids:
        """One more session that the client has booked, and another one in its place."""
        ids = await self.reservation()
        return {**ids, "new_session_id": (await self.class_session())["class_session_id"]}

    async def closure(self) -> Ids:
        """One more closure of the organization."""
        body = {"starts_local": "2040-01-01T00:00", "ends_local": "2040-01-02T00:00"}
        closure = await self.cast.owner.call("POST", f"{self.here}/closures", body, expect=201)
        return {"closure_id": closure["id"]}

    async def feed(self, caller: Caller) -> Ids:
        """One more calendar feed of a caller's own, with the token of its address."""
        body = {"organization_id": caller.organization_id or self.standing["organization_id"]}
        answer = await caller.call("POST", "/api/calendar-feeds", body, expect=201)
        token = answer["address"].rpartition("/")[2].removesuffix(".ics")
        return {"feed_id": answer["id"], "token": token}

    async def room(self) -> Ids:
        """One more room of the organization."""
        room = {"kind": "room", "name": unique("Room")}
        answer = await self.cast.owner.call("POST", f"{self.here}/resources", room, expect=201)
        return {"resource_id": answer["id"]}

    async def room_with_calendar(self) -> Ids:
        """One more room, with a calendar elsewhere."""
        ids = await self.room()
        path = f"{self.here}/resources/{ids['resource_id']}/busy-calendar"
        body = {"address": "https://calendar.example.org/private.ics"}
        await self.cast.owner.call("PUT", path, body)
        return ids

    async def calendar(self) -> Ids:
        """A room, a class and a closure, once the therapist's resource exists."""
        owner = self.cast.owner

        async def has_therapist() -> bool:
            rows = await owner.call("GET", f"{self.here}/resources?kind=therapist")
            return self.cast.therapist.id in [row["user_id"] for row in rows]

        await until(has_therapist)
        room = await self.room_with_calendar()
        lesson = await owner.call("POST", f"{self.here}/classes", {"name": "Yoga"}, expect=201)
        ids = {**room, "class_id": lesson["id"]}
        return {**ids, **await self.closure(), **await self.series(lesson["id"])}

    async def series(self, class_id: int | None = None) -> Ids:
        """One more series of the class, of a few sessions."""
        first = datetime.now(UTC).date() + timedelta(days=3)
        body = {
            "therapy_class_id": class_id or self.standing["class_id"],
            "weekdays": [first.isoweekday()],
            "start_time": "10:00",
            "first_date": str(first),
            "last_date": str(first + timedelta(weeks=2)),
        }
        answer = await self.cast.owner.call("POST", f"{self.here}/session-series", body, expect=201)
        return {"series_id": answer["id"]}

    async def session(self, caller: Caller) -> Ids:
        """One more session of a caller's own, with its tokens."""
        credentials = {"email": caller.email, "password": caller.password}
        tokens = await self.cast.anonymous.call("POST", "/api/auth/login", credentials)
        newest = Caller(api=caller.api, name=caller.name, token=tokens["access_token"])
        sessions = await newest.call("GET", "/api/auth/sessions")
        current = next(session for session in sessions if session["is_current"])
        return {"session_id": current["id"], "refresh_token": tokens["refresh_token"]}


@asynccontextmanager
async def open_scene(stack: Stack) -> AsyncIterator[Scene]:
    """Two organizations with signed-in users, and one object of each kind in the first."""
    async with httpx.AsyncClient(base_url=stack.address, timeout=60) as api:
        first_admin = Person(api, "Admin", stack.admin_email, stack.admin_password)
        secret = stack.system.stripe_webhook_secret
        yield await furnish(await assemble(api, first_admin), secret)


async def furnish(cast: Cast, webhook_secret: str) -> Scene:
    """Make one of everything in the first organization."""
    scene = Scene(cast, {"organization_id": cast.owner.organization_id}, webhook_secret)
    scene.standing |= {"user_id": cast.therapist.id, "permission": "view_payments"}
    scene.standing |= {"client_id": cast.client.id, "payout_id": 1}
    scene.standing |= {"dependant_id": (await scene.dependant())["dependant_id"]}
    scene.standing |= await scene.voucher_type()
    repayment = await scene.repayment()
    scene.standing |= {"repayment_id": repayment["repayment_id"]}
    scene.standing |= await scene.quoted()
    scene.standing |= await scene.saved_card()
    scene.standing |= await scene.redemption()
    scene.standing |= await scene.adjustment()
    scene.standing |= await scene.calendar()
    scene.standing |= await scene.movable()
    scene.standing |= await scene.feed(cast.client)
    scene.standing |= await scene.session(cast.client)
    scene.standing |= await _documents(scene)
    return scene


async def _documents(scene: Scene) -> Ids:
    """The permanent payment's invoice and, after a refund, its credit note."""
    owner, payment = scene.cast.owner, scene.standing["payment_id"]
    refund = {"amount": 1, "reason": "A courtesy"}
    await owner.call("POST", f"{scene.here}/payments/{payment}/refunds", refund, expect=201)
    invoice = await owner.call("GET", f"/api/payments/{payment}/invoice")
    notes = await owner.call("GET", f"/api/payments/{payment}/credit-notes")
    return {"invoice_id": invoice["id"], "number": notes[0]["number"], "gateway_name": "stripe"}
