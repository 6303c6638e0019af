"""What people do all the while: buy, pay, redeem, take back, give back, sign in, edit, found.

Their banks want money back, too.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from deploy.api_client import Person, unique
from deploy.demo.story import DECLINED_CARD, SECURE_CARD
from deploy.proof.chaos.client import PAUSE_SECONDS, ClientAnswer, History, Traffic, Unanswered
from deploy.proof.chaos.disputes import Bank
from deploy.proof.chaos.organizations import ChaosOrganization, create_organization, founding
from deploy.proof.chaos.platform import Platform

ORGANIZATIONS = 2
USERS = 32
PAUSE_BETWEEN = (0.1, 1.0)
NEXT_ACTION_WITHIN = 30.0
AT_REST_WITHIN = 30.0
AT_THE_SAME_MOMENT = 0.1
"""Seconds between two requests that are to race: either may be first."""
GOOD_CARD = "pm_card_visa"

Action = Callable[[ChaosOrganization, random.Random], Awaitable[None]]


class Users:
    """Everybody who uses the system; each user does one thing after the other."""

    def __init__(self, platform: Platform, seed: int) -> None:
        stack = platform.stack
        self.history = History()
        self.traffic = Traffic(self.history)
        self.organizations: list[ChaosOrganization] = []
        self._platform = platform
        self._seed = seed
        self._admin = Person(platform.api, "admin", stack.admin_email, stack.admin_password)
        secret = stack.system.stripe_webhook_secret
        self._bank = Bank(platform.api, secret, self.history)
        self._impatient_until = 0.0
        self._stop = asyncio.Event()
        self._actions: dict[Action, int] = {
            self._buy: 8,
            self._buy_declined: 2,
            self._buy_secure: 3,
            self._redeem: 6,
            self._reverse: 2,
            self._cancel_unpaid: 4,
            self._refund: 3,
            self._refund_by_quote: 4,
            self._sign_in: 2,
            self._edit: 2,
            self._rename: 1,
            self._found: 3,
            self._dispute: 3,
        }

    async def create_organizations(self) -> None:
        """Make everything that is there before anything fails."""
        await self._admin.sign_in()
        names = [f"organization-{number}" for number in range(1, ORGANIZATIONS + 1)]
        self.organizations = [
            await create_organization(self._platform.api, self._admin, name) for name in names
        ]

    async def run(self, *, impatient_seconds: float) -> None:
        """Let everybody act until `stop`, each finishing what they began.

        For the first `impatient_seconds` some give up on an organization after one attempt.
        """
        self._impatient_until = time.monotonic() + impatient_seconds
        try:
            await asyncio.gather(*(self._act(number) for number in range(USERS)))
            await self._bank.all_told(give_up_at=self.traffic.give_up_at)
        finally:
            self._bank.stop()

    def stop(self, *, patience: float) -> None:
        """Let nobody begin anything new; what has no answer after `patience` seconds is noted."""
        self.traffic.give_up_at = time.monotonic() + patience
        self._stop.set()

    async def _act(self, number: int) -> None:
        dice = random.Random(f"{self._seed}/user/{number}")  # noqa: S311 - to be replayed
        actions, weights = list(self._actions), list(self._actions.values())
        while not self._stop.is_set():
            action = dice.choices(actions, weights)[0]
            organization = dice.choice(self.organizations)
            with contextlib.suppress(Unanswered):
                await action(organization, dice)
            await asyncio.sleep(dice.uniform(*PAUSE_BETWEEN))

    async def _purchase(
        self,
        organization: ChaosOrganization,
        dice: random.Random,
        token: str | None,
        method: str = "credit_card",
    ) -> tuple[Person, ClientAnswer]:
        client = dice.choice(organization.clients)
        body = {
            "voucher_type_id": organization.voucher_type,
            "payment_method": method,
            "payment_token": token,
        }
        told = await self.traffic.post(client, "purchase", "/api/vouchers/purchase", body)
        return client, told

    async def _buy(self, organization: ChaosOrganization, dice: random.Random) -> None:
        _, told = await self._purchase(organization, dice, GOOD_CARD)
        if told.done and told.body["status"] == "active":
            organization.vouchers.append(told.body)

    async def _buy_declined(self, organization: ChaosOrganization, dice: random.Random) -> None:
        _, told = await self._purchase(organization, dice, await self._token(DECLINED_CARD))
        if told.done:  # the card gateway did not answer: it declines later
            self.history.note("declined later", told.body)

    async def _buy_secure(self, organization: ChaosOrganization, dice: random.Random) -> None:
        client, told = await self._purchase(organization, dice, await self._token(SECURE_CARD))
        if not told.done:
            return
        payment = told.body["payment"]
        action = payment["next_action"] or await self._next_action(client, payment)
        if action is None:
            return
        await self._at_the_bank(lambda: self._platform.cards.authenticate(action["client_secret"]))
        if dice.random() < 0.5:  # the others' browsers are closed: only the webhook tells
            path = f"/api/payments/{payment['transaction_id']}/confirm"
            await self.traffic.post(client, "confirm", path, {})

    async def _next_action(self, client: Person, payment: dict[str, Any]) -> dict[str, Any] | None:
        """Look until it is known what the bank wants, as a page does that was left open."""
        path = f"/api/payments/{payment['transaction_id']}"
        until = time.monotonic() + NEXT_ACTION_WITHIN
        while time.monotonic() < until:
            answer = await self.traffic.until_answered(client, "look", "GET", path)
            action: dict[str, Any] | None = answer.json().get("next_action")
            if action is not None:
                return action
            await asyncio.sleep(1)
        return None

    async def _token(self, card: str) -> str:
        return await self._at_the_bank(lambda: self._platform.cards.token_for_card(card)) or ""

    async def _at_the_bank(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Ask the card gateway until it answers, if only that it is done already (4xx)."""
        while time.monotonic() < self.traffic.give_up_at:
            try:
                return await ask()
            except httpx.HTTPStatusError as error:
                if error.response.status_code < 500:
                    return None
            except httpx.HTTPError:
                pass
            await asyncio.sleep(PAUSE_SECONDS)
        raise Unanswered("the card gateway")

    async def _redeem(self, organization: ChaosOrganization, dice: random.Random) -> None:
        if not organization.vouchers:
            return
        voucher = dice.choice(organization.vouchers)
        code = dice.choice([c["code"] for c in voucher["codes"] if not c["is_backup"]])
        body = {"code": code} if dice.random() < 0.5 else {}
        path = f"/api/vouchers/{voucher['id']}/redemptions"
        told = await self.traffic.post(organization.therapist, "redemption", path, body)
        if told.done:
            organization.redemptions.append(told.body)

    async def _reverse(self, organization: ChaosOrganization, dice: random.Random) -> None:
        if not organization.redemptions:
            return
        spent = dice.choice(organization.redemptions)
        path = f"/api/vouchers/{spent['voucher_id']}/redemptions/{spent['id']}/reverse"
        await self.traffic.post(organization.owner, "reversal", path, {})

    async def _cancel_unpaid(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Cancel a voucher that was to be paid by hand, half of them while staff enter its money.

        The payment's lock decides which of the two comes first.
        """
        method = dice.choice(["cash", "bank_transfer"])
        client, told = await self._purchase(organization, dice, None, method)
        if not told.done:
            return
        voucher, payment = told.body["id"], told.body["payment"]["transaction_id"]
        cancel = f"/api/vouchers/{voucher}/cancel"
        mark_paid = f"{organization.here}/payments/{payment}/mark-paid"
        cancels_after = dice.uniform(0, AT_THE_SAME_MOMENT)
        pays_after = dice.uniform(0, AT_THE_SAME_MOMENT)
        if dice.random() < 0.5:
            await self._post_after(cancels_after, client, "cancellation", cancel)
            return
        await asyncio.gather(
            self._post_after(cancels_after, client, "cancellation", cancel),
            self._post_after(pays_after, organization.owner, "mark-paid", mark_paid),
        )

    async def _post_after(self, seconds: float, who: Person, kind: str, path: str) -> None:
        await asyncio.sleep(seconds)
        await self.traffic.post(who, kind, path, {})

    async def _refund(self, organization: ChaosOrganization, dice: random.Random) -> None:
        if not organization.vouchers:
            return
        voucher = dice.choice(organization.vouchers)
        body = {} if dice.random() < 0.3 else {"amount": dice.choice([10, 25.5, 199.99])}
        path = f"{organization.here}/payments/{voucher['payment']['transaction_id']}/refunds"
        await self.traffic.post(organization.owner, "refund", path, body)

    async def _refund_by_quote(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Ask what some sessions bring, or all; then mostly take it, perhaps after others did."""
        if not organization.vouchers:
            return
        here = f"/api/vouchers/{dice.choice(organization.vouchers)['id']}"
        body = {"sessions": dice.choice([None, 1, 2, 3])}
        quote = await self.traffic.post(organization.owner, "quote", f"{here}/refund-quote", body)
        if quote.done and dice.random() < 0.8:
            order = {"quote_id": quote.body["id"]}
            await self.traffic.post(organization.owner, "refund-by-quote", f"{here}/refunds", order)

    async def _dispute(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Want the money back from one's bank, which decides at once, or later, or has not yet."""
        candidates = [v for v in organization.vouchers if v["id"] not in organization.disputed]
        if not candidates:
            return
        voucher = dice.choice(candidates)
        organization.disputed.add(voucher["id"])
        decision, at_once = dice.choice(["won", "lost", "lost", None]), dice.random() < 0.3
        path = f"/api/payments/{voucher['payment']['transaction_id']}"
        payment = await self.traffic.until_answered(organization.owner, "look", "GET", path)
        dispute = self._bank.dispute(payment.json(), dice)
        if not at_once:
            await self._try_at_rest(organization, f"/api/vouchers/{voucher['id']}")
        if decision is not None:
            self._bank.decide(dispute, decision, dice)

    async def _try_at_rest(self, organization: ChaosOrganization, path: str) -> None:
        """Wait until a voucher rests, and try to redeem it: that is refused, for nobody decided."""
        until = time.monotonic() + AT_REST_WITHIN
        while time.monotonic() < until:
            shown = await self.traffic.until_answered(organization.owner, "look", "GET", path)
            if shown.json()["disputed_at"] is not None:
                kind = "redemption at rest"
                await self.traffic.post(organization.therapist, kind, f"{path}/redemptions", {})
                return
            await asyncio.sleep(1)

    async def _sign_in(self, organization: ChaosOrganization, dice: random.Random) -> None:
        chosen = dice.choice([organization.owner, organization.therapist, *organization.clients])
        person = Person(chosen.api, chosen.name, chosen.email, chosen.password)
        await self.traffic.sign_in(person)

    async def _edit(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Change a description, once: a change whose answer was lost is found by reading."""
        path = f"{organization.here}/voucher-types/{organization.edited_type}"
        wanted = f"Edited by user {dice.randrange(10**9)}"
        async with organization.editing:
            while True:
                listed = await self.traffic.until_answered(
                    organization.owner, "look", "GET", f"{organization.here}/voucher-types"
                )
                now = next(kind for kind in listed.json() if kind["id"] == organization.edited_type)
                if now["description"] == wanted:
                    break
                tag = {"If-Match": f'"{now["version"]}"'}
                answer = await self.traffic.until_answered(
                    organization.owner, "edit", "PUT", path, {"description": wanted}, tag
                )
                if answer.status_code != 412:
                    now = answer.json()
                    break
        self.history.told.append(ClientAnswer("edit", 200, now))

    async def _rename(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Change one's own name: what the vouchers service has a copy of."""
        client = dice.choice(organization.clients)
        body = {"name": unique("client")}
        answer = await self.traffic.until_answered(client, "rename", "PUT", "/api/auth/me", body)
        answer.raise_for_status()
        shown = {"id": answer.json()["id"], "version": int(answer.headers["ETag"].strip('"'))}
        self.history.told.append(ClientAnswer("rename", answer.status_code, shown))

    async def _found(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Found an organization; the impatient try once, and never learn what came of it."""
        order = founding("founded")
        path = "/api/admin/organizations"
        if dice.random() < 0.5 and time.monotonic() < self._impatient_until:
            key = {"Idempotency-Key": unique("once")}
            await self.traffic.once(self._admin, "founding", "POST", path, order, key)
        else:
            await self.traffic.post(self._admin, "founding", path, order)
