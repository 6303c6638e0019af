"""The first six steps of the story; each checks and prints the answers."""

from typing import Any

import httpx

from deploy.api_client import CardGateway, Mailbox, Person, require, unique
from deploy.demo.page import Page
from deploy.demo.payment_account import connect_account

PASSWORD = "correct horse battery"  # noqa: S105 - of users who exist only in the story
DECLINED_CARD = "4000000000000341"
SECURE_CARD = "4000002500003155"

HOURS = {"enabled": True, "start_time": "09:00", "end_time": "17:00"}
PACKAGE = {
    "name": "Ten sessions",
    "session_name": "Individual therapy",
    "description": "Ten sessions of one hour, and two more for sessions that are missed.",
    "total_sessions": 10,
    "backup_sessions": 2,
    "session_duration_minutes": 60,
    "max_clients_per_session": 1,
    "frequency": "weekly",
    "price": 399.99,
    "validity_days": 180,
    "booking_rules": {
        "monday": HOURS,
        "wednesday": {**HOURS, "start_time": "12:00", "end_time": "20:00"},
        "sunday": {"enabled": False},
    },
}


class Story:
    """The users of the story and what they create."""

    def __init__(
        self,
        api: httpx.AsyncClient,
        cards: CardGateway,
        mailbox: Mailbox,
        admin: Person,
        page: Page,
    ) -> None:
        self.api = api
        self.cards = cards
        self.mailbox = mailbox
        self.page = page
        self.admin = admin
        self.owner = self._person("Olga Owner")
        self.other_owner = self._person("Otto Other")
        self.therapist = self._person("Tamara Therapist")
        self.client = self._person("Clara Client")
        self.organization: dict[str, Any] = {}
        self.voucher_type: dict[str, Any] = {}
        self.voucher: dict[str, Any] = {}
        self.account: str | None = None

    def _person(self, name: str) -> Person:
        email = f"{unique(name.split()[0].lower())}@example.com"
        return Person(self.api, name, email, PASSWORD)

    @property
    def _here(self) -> str:
        return f"/api/organizations/{self.organization['id']}"

    async def run(self) -> None:
        """Run all steps. Raises UnexpectedAnswer when one does not end as expected."""
        for step in (
            self.create_organization,
            self.create_voucher_type,
            self.admit_client,
            self.buy,
            self.redeem,
            self.read_audit_trail,
        ):
            await step()

    async def create_organization(self) -> None:
        """The admin signs in and creates an organization with its owner."""
        self.page.step(1, "The admin creates an organization with its owner")
        await self.admin.sign_in()
        self.page.exchange("POST /api/auth/login", f"{self.admin.email} is signed in")
        self.organization = await self._organization("Seaside Practice", self.owner)
        self.page.exchange(
            "POST /api/admin/organizations",
            f"organization {self.organization['id']} “{self.organization['slug']}”,"
            f" owner {self.organization['owner']['email']}",
        )
        await self._organization("Another Practice", self.other_owner)

    async def _organization(self, name: str, owner: Person) -> dict[str, Any]:
        organization: dict[str, Any] = await self.admin.call(
            "POST",
            "/api/admin/organizations",
            {
                "name": name,
                "owner_email": owner.email,
                "owner_name": owner.name,
                "owner_password": owner.password,
                "timezone": "Europe/Warsaw",
                "currency": "EUR",
                "tax_id": "PL5260250274",
                "address": "Beach Road 1",
            },
            expect=201,
        )
        organization_id = organization["owner"]["organization_id"]
        require(organization_id == organization["id"], "the owner belongs to the organization")
        return organization

    async def create_voucher_type(self) -> None:
        """The owner signs in, creates a voucher type and employs a therapist."""
        self.page.step(2, "The owner creates a voucher type")
        await self.owner.sign_in()
        self.voucher_type = await self.owner.call(
            "POST", f"{self._here}/voucher-types", PACKAGE, expect=201
        )
        new = self.voucher_type
        require(new["booking_rules"] == PACKAGE["booking_rules"], "the rules are those sent")
        self.page.exchange(
            f"POST {self._here}/voucher-types",
            f"“{new['name']}”: {new['total_sessions']} + {new['backup_sessions']} sessions,"
            f" {new['price']} {new['currency']}",
        )
        therapist = self.therapist
        await self.owner.call(
            "POST",
            f"{self._here}/users",
            {
                "email": therapist.email,
                "name": therapist.name,
                "password": therapist.password,
                "role": "therapist",
            },
            expect=201,
        )
        self.page.exchange(f"POST {self._here}/users", f"therapist {therapist.email}")

    async def admit_client(self) -> None:
        """A client registers, confirms the address, is approved and signs in."""
        self.page.step(3, "A client registers and is approved")
        await self._register()
        client = self.client
        credentials = {"email": client.email, "password": client.password}
        error = await client.call("POST", "/api/auth/login", credentials, expect=403)
        self.page.exchange("POST /api/auth/login", f"403 {error['code']}: {error['detail']}")
        waiting = {"pending": "true", "q": client.email}
        [user] = await self.owner.call("GET", f"{self._here}/users", params=waiting)
        await self.owner.call("POST", f"{self._here}/users/{user['id']}/approve")
        self.page.exchange(f"POST …/users/{user['id']}/approve", "the owner approves")
        await client.sign_in()
        self.page.exchange("POST /api/auth/login", f"{client.email} is signed in")

    async def _register(self) -> None:
        """Register the client, and open the link in the message to the client's address."""
        client = self.client
        await client.call(
            "POST",
            "/api/auth/register",
            {
                "email": client.email,
                "name": client.name,
                "password": client.password,
                "organization_slug": self.organization["slug"],
            },
            expect=201,
        )
        self.page.exchange("POST /api/auth/register", f"{client.email} gets a link")
        token = await self.mailbox.link_token(client.email, "/account/address")
        await client.call("POST", "/api/auth/address/confirm", {"token": token})
        self.page.exchange("POST /api/auth/address/confirm", "the client opens the link")

    async def buy(self) -> None:
        """The client buys: with a good card, twice with one key, declined, and with 3-D Secure."""
        self.page.step(4, "The client buys")
        types = await self.client.call("GET", "/api/voucher-types/available")
        require([t["id"] for t in types] == [self.voucher_type["id"]], "one type is offered")
        self.page.exchange("GET /api/voucher-types/available", f"{len(types)} type on offer")
        if "credit_card" not in types[0]["payment_methods"]:
            await self._connect_account()
        key = unique("purchase")
        self.voucher = await self._purchase("pm_card_visa", key=key)
        await self._check_the_purchase()
        again = await self._purchase("pm_card_visa", key=key)
        require(again == self.voucher, "the same key gets the same answer")
        require(len(await self._captured()) == 1, "and charges nothing")
        self.page.exchange(
            "POST /api/vouchers/purchase", "same Idempotency-Key: same answer, no charge"
        )
        await self._buy_with_a_declined_card()
        await self._buy_with_three_d_secure()

    async def _connect_account(self) -> None:
        """The owner opens the organization's own account, which this system requires for cards."""
        self.account = await connect_account(self.cards, self.owner, self.client, self._here)
        self.page.exchange(
            f"POST {self._here}/payment-account",
            f"the owner completes the onboarding: cards are charged on {self.account}",
        )

    async def _purchase(self, token: str, *, key: str, expect: int = 201) -> dict[str, Any]:
        body = {
            "voucher_type_id": self.voucher_type["id"],
            "payment_method": "credit_card",
            "payment_token": token,
        }
        answer: dict[str, Any] = await self.client.call(
            "POST", "/api/vouchers/purchase", body, expect=expect, key=key
        )
        return answer

    async def _check_the_purchase(self) -> None:
        voucher = self.voucher
        backup = [code for code in voucher["codes"] if code["is_backup"]]
        require(voucher["status"] == "active", "the voucher is active")
        require((len(voucher["codes"]), len(backup)) == (12, 2), "12 codes, 2 of them backup")
        require(bool(voucher["invoice_number"]), "there is an invoice number")
        card_payments = await self._captured()
        require([p["amount"] for p in card_payments] == [39999], "one card payment of 399.99")
        self.page.exchange(
            "POST /api/vouchers/purchase",
            f"201 voucher {voucher['id']} is {voucher['status']}, {len(voucher['codes'])} codes"
            f" ({len(backup)} backup), invoice {voucher['invoice_number']},"
            f" one card payment of {card_payments[0]['amount'] / 100:.2f}",
        )

    async def _captured(self) -> list[dict[str, Any]]:
        """Return this client's payments that the card gateway has captured."""
        mine = await self.client.call("GET", "/api/payments/my")
        ids = {p["gateway_transaction_id"] for p in mine}
        return await self.cards.payments(lambda payment: payment["id"] in ids, self.account)

    async def _buy_with_a_declined_card(self) -> None:
        token = await self.cards.token_for_card(DECLINED_CARD, self.account)
        error = await self._purchase(token, key=unique("declined"), expect=402)
        mine = await self.client.call("GET", "/api/vouchers/my", params={"status": "active"})
        require(len(mine) == 1, "a declined card leaves no active voucher")
        self.page.exchange("POST /api/vouchers/purchase", f"402 {error['code']}: {error['detail']}")

    async def _buy_with_three_d_secure(self) -> None:
        token = await self.cards.token_for_card(SECURE_CARD, self.account)
        voucher = await self._purchase(token, key=unique("secure"))
        payment = voucher["payment"]
        require(payment["status"] == "requires_action", "3-D Secure requires the owner's consent")
        require(voucher["status"] == "pending", "until then the voucher is pending")
        self.page.exchange(
            "POST /api/vouchers/purchase", "201 pending: the bank wants a confirmation"
        )
        await self.cards.authenticate(payment["next_action"]["client_secret"])
        active = await self.client.get_until(
            lambda body: body["status"] == "active", f"/api/vouchers/{voucher['id']}"
        )
        self.page.exchange(
            "POST /api/payments/webhooks/stripe",
            f"signed by the card gateway: voucher {active['id']} is {active['status']},"
            f" invoice {active['invoice_number']}",
        )

    async def redeem(self) -> None:
        """A therapist redeems a code; it cannot be redeemed again."""
        self.page.step(5, "A therapist redeems a code")
        await self.therapist.sign_in()
        code = next(c["code"] for c in self.voucher["codes"] if not c["is_backup"])
        path = f"/api/vouchers/{self.voucher['id']}/redemptions"
        redemption = await self.therapist.call("POST", path, {"code": code}, expect=201)
        require(redemption["regular_sessions_left"] == 9, "nine regular sessions are left")
        self.page.exchange(
            f"POST {path}",
            f"{code} is redeemed: {redemption['regular_sessions_left']} regular and"
            f" {redemption['backup_sessions_left']} backup sessions left",
        )
        error = await self.therapist.call("POST", path, {"code": code}, expect=409)
        self.page.exchange(f"POST {path}", f"409 {error['code']}: {error['detail']}")

    async def read_audit_trail(self) -> None:
        """The owner reads who changed what; the owner of another organization gets a 404."""
        self.page.step(6, "The owner reads the audit trail")
        path = f"{self._here}/audit-logs"
        rows = await self.owner.get_until(_is_complete, path, {"limit": 200})
        for expected in self._expected_rows():
            matches = [
                row
                for row in rows
                if (row["action"], row["entity_type"], row["entity_id"]) == expected
            ]
            require(len(matches) == 1, f"{expected} exists once, not {len(matches)} times")
            [row] = matches
            has_origin = bool(row["ip_address"] and row["user_agent"])
            require(has_origin or row["user_id"] is None, f"{expected} has its origin")
            require(bool(row["new_values"]), f"{expected} has the new values")
        self.page.audit(rows)
        await self.other_owner.sign_in()
        error = await self.other_owner.call("GET", path, expect=404)
        self.page.exchange(f"GET {path}", f"by another organization's owner: 404 {error['code']}")

    def _expected_rows(self) -> list[tuple[str, str, int]]:
        voucher_id = self.voucher["id"]
        return [
            ("CREATE", "organization", self.organization["id"]),
            ("CREATE", "user", self.organization["owner"]["id"]),
            ("CREATE", "voucher_type", self.voucher_type["id"]),
            ("PURCHASE", "voucher", voucher_id),
            ("ACTIVATE", "voucher", voucher_id),
            ("SUCCEED", "payment_transaction", self.voucher["payment"]["transaction_id"]),
        ]


def _is_complete(rows: list[dict[str, Any]]) -> bool:
    """Return whether the row of the redemption, the last change of the story, has arrived."""
    kinds = {(row["action"], row["entity_type"]) for row in rows}
    return ("REDEEM", "redemption") in kinds or ("REDEEM", "voucher") in kinds
