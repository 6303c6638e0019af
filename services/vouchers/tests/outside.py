"""The services that this one calls, as the contract between them describes their answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx

from services.vouchers.errors import VoucherPaid

ORGANIZATION = 7
OTHER_ORGANIZATION = 8
CLIENT = 21
SECOND_CLIENT = 22
OTHER_CLIENT = 31
FREE_CLIENT = 41
CHILD = 61
"""A dependant of our client."""


class Organizations:
    """Two organizations: ours in Warsaw and another one in UTC."""

    def __init__(self) -> None:
        self.calls = 0
        self.known = {
            ORGANIZATION: _organization(ORGANIZATION, "Our Practice", "Europe/Warsaw", "PLN"),
            OTHER_ORGANIZATION: _organization(OTHER_ORGANIZATION, "Another", "UTC", "USD"),
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        if slug := request.url.params.get("slug"):
            found = next((o for o in self.known.values() if o["slug"] == slug), None)
        else:
            found = self.known.get(int(request.url.path.rpartition("/")[2]))
        return httpx.Response(200, json=found) if found else httpx.Response(404)


def _organization(number: int, name: str, timezone: str, currency: str) -> dict[str, Any]:
    return {
        "id": number,
        "version": 1,
        "name": name,
        "slug": name.lower().replace(" ", "-"),
        "address": "Main Street 1",
        "phone": None,
        "email": "office@example.org",
        "tax_id": "PL123",
        "logo_url": None,
        "timezone": timezone,
        "currency": currency,
        "is_active": True,
    }


class Identity:
    """The users of both organizations, and one who belongs to none."""

    def __init__(self) -> None:
        self.calls = 0
        self.users: dict[int, dict[str, Any]] = {}
        for number, organization_id in (
            (1, None),
            (CLIENT, ORGANIZATION),
            (SECOND_CLIENT, ORGANIZATION),
            (OTHER_CLIENT, OTHER_ORGANIZATION),
            (FREE_CLIENT, None),
        ):
            self.users[number] = {
                "id": number,
                "version": 1,
                "name": f"Client {number}",
                "email": f"client{number}@example.com",
                "role": "admin" if number == 1 else "client",
                "organization_id": organization_id,
                "is_active": True,
                "guardian_id": None,
            }
        self.users[CHILD] = {
            **self.users[CLIENT],
            "id": CHILD,
            "name": "Child 61",
            "email": None,
            "guardian_id": CLIENT,
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        user = self.users.get(int(request.url.path.rpartition("/")[2]))
        return httpx.Response(200, json=user) if user else httpx.Response(404)


class Payments:
    """Payments: one transaction per voucher; a repeated call returns its state.

    The tokens decide: `pm_declined` is declined, `pm_unknown` is no card's, `pm_3ds` needs the
    payer, and `pm_late` is of an organization whose account was just restricted; any other card
    succeeds, and what is no token at all is refused.
    Cash, transfers and cards without a token wait. A refund becomes what `refund_status` is, once
    per quote; `returned` is what went back of a voucher's payment, or is on its way, and `pending`
    what of that is on its way. `meanwhile` is done once, while the answer about a payment travels,
    and `during_charge` while the one about a charge does.
    """

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.transactions: dict[int, dict[str, Any]] = {}
        self.charged: list[int] = []
        self.break_before: BaseException | None = None
        self.break_after: BaseException | None = None
        self.pause = 0.0
        self.meanwhile: Callable[[], Awaitable[Any]] | None = None
        self.during_charge: Callable[[int], Awaitable[Any]] | None = None
        self.pending: dict[int, Decimal] = {}
        self.currency = "PLN"
        self.refund_status = "succeeded"
        self.refunds: dict[int, dict[str, Any]] = {}
        self.returned: dict[int, Decimal] = {}
        self.closed: list[int] = []
        self.paid_by_hand: set[int] = set()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            state = self._state(int(request.url.path.split("/")[3]))
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile:
                await meanwhile()
            return state
        if request.url.path == "/internal/refunds":
            return await self._refund(json.loads(request.content, parse_float=Decimal))
        if self.break_before:
            raise self.break_before
        if request.url.path.endswith("/payment/close"):
            return self._close(int(request.url.path.split("/")[3]))
        order: dict[str, Any] = json.loads(request.content)
        token = order["payment_token"]
        if token and not token.startswith("pm_"):
            error = {"field": "payment_token", "message": "must be a token of the card form"}
            return httpx.Response(422, json={"code": "invalid_request", "errors": [error]})
        self.orders.append(order)
        await asyncio.sleep(self.pause)
        known = self.transactions.get(order["voucher_id"])
        if known is None:
            known = self.transactions[order["voucher_id"]] = self._charge(order)
        during_charge, self.during_charge = self.during_charge, None
        if during_charge:
            await during_charge(order["voucher_id"])
        if self.break_after:
            raise self.break_after
        return httpx.Response(200, json=known)

    async def close(self, voucher_id: int) -> None:
        """Answer the worker's call without a network."""
        if self._close(voucher_id).status_code == 409:
            raise VoucherPaid

    def _close(self, voucher_id: int) -> httpx.Response:
        if voucher_id in self.paid_by_hand:
            return httpx.Response(409, json={"code": "payment_made"})
        self.closed.append(voucher_id)
        return httpx.Response(204)

    def _state(self, voucher_id: int) -> httpx.Response:
        known = self.transactions.get(voucher_id)
        if known is None:
            return httpx.Response(404, json={"code": "payment_not_found"})
        captured, returned = self._captured(voucher_id), self.returned.get(voucher_id, Decimal(0))
        return httpx.Response(
            200,
            json={
                "transaction_id": known["transaction_id"],
                "currency": self.currency,
                "captured_amount": str(captured),
                "refunded_amount": str(returned),
                "refundable_amount": str(captured - returned),
                "pending_amount": str(self.pending.get(voucher_id, Decimal(0))),
                # Two decimals, as every amount between services.
                "unit": "1.00" if self.currency == "JPY" else "0.01",
            },
        )

    def _captured(self, voucher_id: int) -> Decimal:
        [amount] = {o["amount"] for o in self.orders if o["voucher_id"] == voucher_id}
        return Decimal(str(amount))

    async def _refund(self, order: dict[str, Any]) -> httpx.Response:
        if self.break_before:
            raise self.break_before
        await asyncio.sleep(self.pause)
        [voucher_id] = [
            number
            for number, known in self.transactions.items()
            if known["transaction_id"] == order["transaction_id"]
        ]
        if order["quote_id"] not in self.refunds:
            back = self.returned.get(voucher_id, Decimal(0))
            if self.refund_status != "failed":
                self.returned[voucher_id] = back + order["amount"]
            self.refunds[order["quote_id"]] = {
                "id": 900 + len(self.refunds),
                "status": self.refund_status,
                "amount": str(order["amount"]),
                "refunded_amount": str(self.returned.get(voucher_id, back)),
                "failure_message": "No way back." if self.refund_status == "failed" else None,
            }
        if self.break_after:
            raise self.break_after
        return httpx.Response(200, json=self.refunds[order["quote_id"]])

    def _charge(self, order: dict[str, Any]) -> dict[str, Any]:
        number = len(self.transactions) + 1
        answer: dict[str, Any] = {
            "transaction_id": number,
            "status": "pending",
            "next_action": None,
            "failure": None,
            "invoice_number": None,
            "completed_at": None,
        }
        token = order["payment_token"]
        refused = ("pm_declined", "pm_unknown", "pm_3ds", "pm_late")
        if order["amount"] == 0 or (token and token not in refused):
            self.charged.append(order["voucher_id"])
            completed = {"invoice_number": f"OUR-2026-{number:06}"}
            return answer | {"status": "succeeded"} | completed
        if token == "pm_declined":
            failure = {"code": "card_declined", "message": "Insufficient funds."}
            return answer | {"status": "failed", "failure": failure}
        if token == "pm_unknown":
            failure = {"code": "card_token_unknown", "message": "Enter the card again."}
            return answer | {"status": "failed", "failure": failure}
        if token == "pm_late":
            failure = {"code": "cards_not_available", "message": "No account may charge."}
            return answer | {"status": "failed", "failure": failure}
        if token == "pm_3ds":
            action = {"type": "redirect_to_url", "redirect_url": "https://bank.example/3ds"}
            return answer | {"status": "requires_action", "next_action": action}
        return answer
