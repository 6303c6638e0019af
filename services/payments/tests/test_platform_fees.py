"""The operator's fee: set by administrators, charged with a card payment, returned with refunds."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.payments.gateways import AccountMode
from services.payments.models import FeeRate
from services.payments.service import webhooks
from services.payments.tests.network import UnreliableNetwork, to_path
from services.payments.tests.signals import (
    CLIENT,
    ORGANIZATION,
    OTHER_ORGANIZATION,
    CardIssuer,
    deliver_connect,
    intent_event,
    order,
)
from services.payments.tests.test_charges import charge
from shared.testing import Database, Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]
FEE = f"/api/organizations/{ORGANIZATION}/platform-fee"
RATE = {"percent": 2.5, "fixed_amount": 0.3, "fixed_currency": "USD"}


@pytest.fixture
def accounts() -> AccountMode:
    return AccountMode.ORGANIZATION


@pytest.fixture
def admin(tokens: Tokens) -> Headers:
    return tokens.bearer(1, "admin")


@pytest.fixture
def owner(tokens: Tokens) -> Headers:
    return tokens.bearer(2, "organization_owner", ORGANIZATION)


async def set_rate(client: httpx.AsyncClient, admin: Headers, **rate: Any) -> None:
    response = await client.put(FEE, json=rate, headers=admin)
    assert response.status_code == 200, response.text


async def fee_at_gateway(issuer: CardIssuer) -> tuple[int, int]:
    """Return the fee that the platform has, and what of it was returned, in minor units."""
    fees = await issuer.application_fees()
    return sum(fee["amount"] for fee in fees), sum(fee["amount_refunded"] for fee in fees)


async def test_there_is_no_fee_until_an_administrator_sets_one(
    client: httpx.AsyncClient, admin: Headers, owner: Headers, database: Database
) -> None:
    nothing = {"percent": 0, "fixed_amount": 0, "fixed_currency": None, "updated_at": None}
    assert (await client.get(FEE, headers=owner)).json() == nothing
    await set_rate(client, admin, **RATE)
    fee_read = (await client.get(FEE, headers=owner)).json()
    assert fee_read.pop("updated_at") is not None
    assert fee_read == RATE
    await set_rate(client, admin, **RATE)
    await set_rate(client, admin, percent=0)
    events = [e for e in await database.events() if e["type"].startswith("payments.platform_fee.")]
    assert [event["data"]["new_values"]["percent"] for event in events] == ["2.50", "0.00"]
    assert events[1]["data"]["old_values"]["fixed_amount"] == "0.30"
    assert {event["data"]["organization_id"] for event in events} == {ORGANIZATION}


async def test_only_administrators_set_the_fee(
    client: httpx.AsyncClient, tokens: Tokens, owner: Headers
) -> None:
    stranger = tokens.bearer(3, "organization_owner", OTHER_ORGANIZATION)
    member = tokens.bearer(4, "therapist", ORGANIZATION)
    for headers, read, write in ((owner, 200, 403), (member, 403, 403), (stranger, 404, 404)):
        assert (await client.get(FEE, headers=headers)).status_code == read
        assert (await client.put(FEE, json=RATE, headers=headers)).status_code == write


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"percent": 100.01}, "percent"),
        ({"percent": -1}, "percent"),
        ({"percent": 1.005}, "percent"),
        ({"percent": 1, "fixed_amount": 0.3}, "fixed_currency"),
        ({"percent": 1, "fixed_currency": "USD"}, "fixed_currency"),
        ({"percent": 1, "fixed_amount": 0.5, "fixed_currency": "JPY"}, "fixed_amount"),
    ],
    ids=["too-high", "negative", "three-decimals", "no-currency", "no-amount", "no-fractions"],
)
async def test_a_rate_that_does_not_fit_is_refused(
    client: httpx.AsyncClient, admin: Headers, body: dict[str, Any], field: str
) -> None:
    response = await client.put(FEE, json=body, headers=admin)
    assert response.status_code == 422
    assert field in response.text


@given(
    percent=st.decimals(0, 100, places=2),
    fixed=st.decimals(0, 1000, places=2),
    amount=st.decimals("0.01", 100_000, places=2),
)
def test_a_fee_is_rounded_half_up_and_never_more_than_the_amount(
    percent: Decimal, fixed: Decimal, amount: Decimal
) -> None:
    rate = FeeRate(percent, fixed, "EUR")
    exact = amount * percent / 100 + fixed
    fee = rate.fee_of(amount, "EUR")
    assert fee == min(exact.quantize(Decimal("0.01"), ROUND_HALF_UP), amount)
    other = rate.fee_of(amount, "USD")
    assert other == (amount * percent / 100).quantize(Decimal("0.01"), ROUND_HALF_UP)


@pytest.mark.parametrize(
    ("rate", "amount", "currency", "fee"),
    [
        (FeeRate(Decimal("2.5")), "0.20", "EUR", "0.01"),
        (FeeRate(Decimal("2.5")), "0.19", "EUR", "0.00"),
        (FeeRate(Decimal("2.5")), "420", "JPY", "11"),
        (FeeRate(Decimal(0), Decimal(50), "JPY"), "420", "JPY", "50"),
        (FeeRate(Decimal(0), Decimal(5), "EUR"), "3", "EUR", "3"),
    ],
    ids=["half-a-cent", "less", "no-fractions", "fixed", "at-most-the-amount"],
)
def test_examples_of_fees(rate: FeeRate, amount: str, currency: str, fee: str) -> None:
    assert rate.fee_of(Decimal(amount), currency) == Decimal(fee)


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
async def test_a_payment_brings_the_fee_to_the_platform(
    client: httpx.AsyncClient,
    vouchers: Headers,
    admin: Headers,
    owner: Headers,
    tokens: Tokens,
    issuer: CardIssuer,
    account: str,
    database: Database,
    first: bool,
) -> None:
    await set_rate(client, admin, **RATE)
    paid = await charge(client, vouchers, order(first=first))
    assert paid["status"] == "succeeded"
    assert await fee_at_gateway(issuer) == (1030, 0)  # 2.5 % of 399.99, and 0.30
    path = f"/api/payments/{paid['transaction_id']}"
    assert (await client.get(path, headers=owner)).json()["platform_fee"] == 10.3
    payer = tokens.bearer(CLIENT, "client", ORGANIZATION)
    assert (await client.get(path, headers=payer)).json()["platform_fee"] is None
    [event] = [e for e in await database.events() if e["type"] == "payments.payment.succeeded.v1"]
    assert event["data"]["new_values"]["platform_fee"] == "10.30"


async def test_a_payment_in_another_currency_has_no_fixed_amount(
    client: httpx.AsyncClient, vouchers: Headers, admin: Headers, issuer: CardIssuer, account: str
) -> None:
    await set_rate(client, admin, **RATE)
    await charge(client, vouchers, order(currency="EUR"))
    assert await fee_at_gateway(issuer) == (1000, 0)


async def test_a_payment_has_the_fee_of_its_intent_also_if_the_rate_changes(
    client: httpx.AsyncClient,
    vouchers: Headers,
    admin: Headers,
    issuer: CardIssuer,
    account: str,
    network: UnreliableNetwork,
    database: Database,
) -> None:
    await set_rate(client, admin, **RATE)
    network.lose_answer = to_path("/v1/payment_intents")
    body = order(first=True)
    with pytest.raises(AssertionError):
        await charge(client, vouchers, body)
    network.heal()
    await set_rate(client, admin, percent=5)
    assert (await charge(client, vouchers, body))["status"] == "succeeded"
    assert await fee_at_gateway(issuer) == (2000, 0)
    [row] = await database.rows("SELECT platform_fee FROM payment_transactions")
    assert row["platform_fee"] == 20


async def test_a_payment_that_adopts_an_intent_has_its_fee(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    account: str,
    transactions: Transactions,
    gateways: Any,
    database: Database,
) -> None:
    pending = await charge(client, vouchers, order(payment_token=None))
    intent = {
        "id": "pi_adopted",
        "object": "payment_intent",
        "amount": 39999,
        "amount_received": 39999,
        "application_fee_amount": 250,
        "currency": "usd",
        "status": "succeeded",
        "livemode": False,
        "metadata": {"transaction_id": str(pending["transaction_id"])},
    }
    await deliver_connect(client, intent_event(intent, account=account))
    await webhooks.process_due(transactions, gateways)
    [row] = await database.rows("SELECT platform_fee, status FROM payment_transactions")
    assert (row["platform_fee"], row["status"]) == (Decimal("2.50"), "succeeded")


async def test_refunds_return_the_fee_in_proportion_to_the_cent(
    client: httpx.AsyncClient,
    vouchers: Headers,
    admin: Headers,
    owner: Headers,
    issuer: CardIssuer,
    account: str,
) -> None:
    await set_rate(client, admin, percent=3.33)
    paid = await charge(client, vouchers, order(amount=100))
    path = f"/api/organizations/{ORGANIZATION}/payments/{paid['transaction_id']}/refunds"
    total = Decimal(0)
    for amount in ("14.29", "14.29", "0.01", "14.29", "42.84", "0.02"):
        refund = await client.post(path, json={"amount": amount}, headers=owner)
        assert refund.json()["status"] == "succeeded", refund.text
        total += Decimal(amount)
        fee, returned = await fee_at_gateway(issuer)
        assert fee == 333
        assert abs(Decimal(returned) - 333 * total / 100) < 1
    rest = await client.post(path, headers=owner)
    assert rest.json()["status"] == "succeeded"
    assert await fee_at_gateway(issuer) == (333, 333)


async def test_a_payment_without_a_fee_is_refunded(
    client: httpx.AsyncClient, vouchers: Headers, owner: Headers, issuer: CardIssuer, account: str
) -> None:
    paid = await charge(client, vouchers, order())
    path = f"/api/organizations/{ORGANIZATION}/payments/{paid['transaction_id']}/refunds"
    refund = await client.post(path, json={"amount": 100}, headers=owner)
    assert refund.json()["status"] == "succeeded"
    assert await issuer.application_fees() == []


class TestInstallation:
    """The same rate in the mode in which one account receives all payments."""

    @pytest.fixture
    def accounts(self) -> AccountMode:
        return AccountMode.INSTALLATION

    async def test_no_fee_is_charged(
        self, client: httpx.AsyncClient, vouchers: Headers, admin: Headers, issuer: CardIssuer
    ) -> None:
        await set_rate(client, admin, **RATE)
        assert (await charge(client, vouchers, order()))["status"] == "succeeded"
        assert await issuer.application_fees() == []
