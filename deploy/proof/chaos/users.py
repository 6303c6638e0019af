"""The users of the run: they buy, pay, book, redeem, reverse, refund, sign in, edit and create.

Their banks dispute payments.
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
from deploy.proof.chaos.bookers import GOOD_CARD, Bookers
from deploy.proof.chaos.client import PAUSE_SECONDS, ClientAnswer, History, Traffic, Unanswered
from deploy.proof.chaos.disputes import Bank
from deploy.proof.chaos.organizations import ChaosOrganization, create_organization, founding
from deploy.proof.chaos.platform import Platform

ORGANIZATIONS = 3
USERS = 32
PAUSE_BETWEEN = (0.1, 1.0)
NEXT_ACTION_WITHIN = 30.0
AT_REST_WITHIN = 30.0
AT_THE_SAME_MOMENT = 0.1
"""The longest delay in seconds between two racing requests, so that either may be first."""

Action = Callable[[ChaosOrganization, random.Random], Awaitable[None]]


class Users:
    """All users of the system; each performs one action after the other."""

    def __init__(self, platform: Platform, seed: int) -> None:
        stack = platform.stack
        self.history = History()
        self.traffic = Traffic(self.history)
        self.organizations: list[ChaosOrganization] = []
        self._platform = platform
        self._seed = seed
        self._admin = Person(platform.api, "admin", stack.admin_email, stack.admin_password)
        secret = stack.system.stripe_connect_webhook_secret
        assert secret is not None, "the card gateway is the run's own"
        self._bank = Bank(platform.api, secret, self.history)
        self._impatient_until = 0.0
        self._stop = asyncio.Event()
        self._actions: dict[Action, int] = {
            self.buy: 8,
            self.buy_declined: 2,
            self.buy_secure: 3,
            self.redeem: 6,
            self.reverse: 2,
            self.cancel_unpaid: 4,
            self.refund: 3,
            self.refund_by_quote: 4,
            self.sign_in: 2,
            self.edit: 2,
            self.rename: 1,
            self.found: 3,
            self.dispute: 3,
            **Bookers(self.traffic).actions,
        }

    async def create_organizations(self) -> None:
        """Create the organizations and their users, before the faults."""
        await self._admin.sign_in()
        names = [f"organization-{number}" for number in range(1, ORGANIZATIONS + 1)]
        self.organizations = [
            await create_organization(self._platform, self._admin, name) for name in names
        ]

    async def run(self, *, impatient_seconds: float) -> None:
        """Let all users act until `stop`; each finishes its last action.

        For the first `impatient_seconds` some give up an organization after one attempt.
        """
        self._impatient_until = time.monotonic() + impatient_seconds
        try:
            await asyncio.gather(*(self._act(number) for number in range(USERS)))
            await self._bank.wait_until_delivered(give_up_at=self.traffic.give_up_at)
        finally:
            self._bank.stop()

    def stop(self, *, patience: float) -> None:
        """Begin no more actions; record requests without a response after `patience` seconds."""
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
        answer = await self.traffic.post(client, "purchase", "/api/vouchers/purchase", body)
        return client, answer

    async def buy(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Buy a voucher with a valid card."""
        _, answer = await self._purchase(organization, dice, GOOD_CARD)
        if answer.succeeded and answer.body["status"] == "active":
            organization.vouchers.append(answer.body)

    async def buy_declined(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Buy with a card that is declined, perhaps only after the response."""
        token = await self._token(organization, DECLINED_CARD)
        _, answer = await self._purchase(organization, dice, token)
        if answer.succeeded:  # the card gateway did not answer in time and declines later
            self.history.record("declined later", answer.body)

    async def buy_secure(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Buy with a card that needs 3-D Secure."""
        token = await self._token(organization, SECURE_CARD)
        client, answer = await self._purchase(organization, dice, token)
        if not answer.succeeded:
            return
        payment = answer.body["payment"]
        action = payment["next_action"] or await self._next_action(client, payment)
        if action is None:
            return
        await self._at_the_bank(lambda: self._platform.cards.authenticate(action["client_secret"]))
        if dice.random() < 0.5:  # the other half closed the browser: only the webhook reports it
            path = f"/api/payments/{payment['transaction_id']}/confirm"
            await self.traffic.post(client, "confirm", path, {})

    async def _next_action(self, client: Person, payment: dict[str, Any]) -> dict[str, Any] | None:
        """Poll the payment until it has the bank's next action, as an open page does."""
        path = f"/api/payments/{payment['transaction_id']}"
        until = time.monotonic() + NEXT_ACTION_WITHIN
        while time.monotonic() < until:
            answer = await self.traffic.until_answered(client, "look", "GET", path)
            action: dict[str, Any] | None = answer.json().get("next_action")
            if action is not None:
                return action
            await asyncio.sleep(1)
        return None

    async def _token(self, organization: ChaosOrganization, card: str) -> str:
        cards, account = self._platform.cards, organization.account
        return await self._at_the_bank(lambda: cards.token_for_card(card, account)) or ""

    async def _at_the_bank(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Call the card gateway until it answers; return None if it already did this (4xx)."""
        while time.monotonic() < self.traffic.give_up_at:
            try:
                return await call()
            except httpx.HTTPStatusError as error:
                if error.response.status_code < 500:
                    return None
            except httpx.HTTPError:
                pass
            await asyncio.sleep(PAUSE_SECONDS)
        raise Unanswered("the card gateway")

    async def redeem(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Redeem a session, by code or without."""
        if not organization.vouchers:
            return
        voucher = dice.choice(organization.vouchers)
        code = dice.choice([c["code"] for c in voucher["codes"] if not c["is_backup"]])
        body = {"code": code} if dice.random() < 0.5 else {}
        path = f"/api/vouchers/{voucher['id']}/redemptions"
        answer = await self.traffic.post(organization.therapist, "redemption", path, body)
        if answer.succeeded:
            organization.redemptions.append(answer.body)

    async def reverse(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Reverse a redemption."""
        if not organization.redemptions:
            return
        redemption = dice.choice(organization.redemptions)
        path = f"/api/vouchers/{redemption['voucher_id']}/redemptions/{redemption['id']}/reverse"
        await self.traffic.post(organization.owner, "reversal", path, {})

    async def cancel_unpaid(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Cancel a voucher that is paid by hand; in half of the cases staff mark it as paid too.

        The payment's lock decides which of the two is first.
        """
        method = dice.choice(["cash", "bank_transfer"])
        client, answer = await self._purchase(organization, dice, None, method)
        if not answer.succeeded:
            return
        voucher, payment = answer.body["id"], answer.body["payment"]["transaction_id"]
        cancel = f"/api/vouchers/{voucher}/cancel"
        mark_paid = f"{organization.path}/payments/{payment}/mark-paid"
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

    async def refund(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Refund a whole payment or an amount."""
        if not organization.vouchers:
            return
        voucher = dice.choice(organization.vouchers)
        body = {} if dice.random() < 0.3 else {"amount": dice.choice([10, 25.5, 199.99])}
        path = f"{organization.path}/payments/{voucher['payment']['transaction_id']}/refunds"
        await self.traffic.post(organization.owner, "refund", path, body)

    async def refund_by_quote(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Request a quote for some or all sessions, and mostly refund by it, perhaps too late."""
        if not organization.vouchers:
            return
        path = f"/api/vouchers/{dice.choice(organization.vouchers)['id']}"
        body = {"sessions": dice.choice([None, 1, 2, 3])}
        quote = await self.traffic.post(organization.owner, "quote", f"{path}/refund-quote", body)
        if quote.succeeded and dice.random() < 0.8:
            body = {"quote_id": quote.body["id"]}
            await self.traffic.post(organization.owner, "refund-by-quote", f"{path}/refunds", body)

    async def dispute(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Dispute a payment. The bank decides at once, later, or not at all."""
        candidates = [v for v in organization.vouchers if v["id"] not in organization.disputed]
        if not candidates:
            return
        voucher = dice.choice(candidates)
        organization.disputed.add(voucher["id"])
        decision, at_once = dice.choice(["won", "lost", "lost", None]), dice.random() < 0.3
        path = f"/api/payments/{voucher['payment']['transaction_id']}"
        payment = await self.traffic.until_answered(organization.owner, "look", "GET", path)
        dispute = self._bank.dispute(payment.json(), organization.account, dice)
        if not at_once:
            await self._redeem_on_hold(organization, f"/api/vouchers/{voucher['id']}")
        if decision is not None:
            self._bank.decide(dispute, organization.account, decision, dice)

    async def _redeem_on_hold(self, organization: ChaosOrganization, path: str) -> None:
        """Wait until a voucher is on hold and try to redeem it, which must be refused."""
        until = time.monotonic() + AT_REST_WITHIN
        while time.monotonic() < until:
            voucher = await self.traffic.until_answered(organization.owner, "look", "GET", path)
            if voucher.json()["disputed_at"] is not None:
                kind = "redemption at rest"
                await self.traffic.post(organization.therapist, kind, f"{path}/redemptions", {})
                return
            await asyncio.sleep(1)

    async def sign_in(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Sign in as one of the organization's users."""
        user = dice.choice([organization.owner, organization.therapist, *organization.clients])
        person = Person(user.api, user.name, user.email, user.password)
        await self.traffic.sign_in(person)

    async def edit(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Change a description once: read it again after a lost response, instead of repeating."""
        path = f"{organization.path}/voucher-types/{organization.edited_type}"
        description = f"Edited by user {dice.randrange(10**9)}"
        async with organization.editing:
            while True:
                types = await self.traffic.until_answered(
                    organization.owner, "look", "GET", f"{organization.path}/voucher-types"
                )
                current = next(t for t in types.json() if t["id"] == organization.edited_type)
                if current["description"] == description:
                    break
                tag = {"If-Match": f'"{current["version"]}"'}
                answer = await self.traffic.until_answered(
                    organization.owner, "edit", "PUT", path, {"description": description}, tag
                )
                if answer.status_code != 412:
                    current = answer.json()
                    break
        self.history.answers.append(ClientAnswer("edit", 200, current))

    async def rename(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Change the user's own name, which the vouchers service copies."""
        client = dice.choice(organization.clients)
        body = {"name": unique("client")}
        answer = await self.traffic.until_answered(client, "rename", "PUT", "/api/auth/me", body)
        answer.raise_for_status()
        content = {"id": answer.json()["id"], "version": int(answer.headers["ETag"].strip('"'))}
        self.history.answers.append(ClientAnswer("rename", answer.status_code, content))

    async def found(self, organization: ChaosOrganization, dice: random.Random) -> None:
        """Create an organization; impatient users try once and do not wait for the result."""
        body = founding("founded")
        path = "/api/admin/organizations"
        if dice.random() < 0.5 and time.monotonic() < self._impatient_until:
            key = {"Idempotency-Key": unique("once")}
            await self.traffic.once(self._admin, "founding", "POST", path, body, key)
        else:
            await self.traffic.post(self._admin, "founding", path, body)
