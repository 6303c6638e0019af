"""Connected accounts: onboarding, books of their own, restriction, disconnection."""

from collections.abc import AsyncIterator

import pytest

from deploy.local.card_gateway.store import Store
from deploy.local.tests.card_books import CONNECT_HOOK, ONBOARDING, Books, opened_books
from shared.testing import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def books() -> AsyncIterator[Books]:
    async with opened_books(Store(":memory:")) as books:
        yield books


async def test_an_account_takes_payments_once_its_owner_completes_the_page(books: Books) -> None:
    account = await books.account(outcome=None)
    state = await books.get(f"/v1/accounts/{account}")
    assert (state["charges_enabled"], state["payouts_enabled"]) == (False, False)
    assert state["requirements"]["currently_due"]
    assert (state["country"], state["default_currency"]) == ("PL", "pln")
    refused = await books.post(
        "/v1/payment_intents", {"amount": 500, "currency": "pln"}, account, expect=400
    )
    assert refused["code"] == "capability_not_active"
    link = await books.post("/v1/account_links", {"account": account, **ONBOARDING})
    page = await books.client.get(link["url"])
    assert account in page.text
    done = await books.client.post(link["url"], data={"outcome": "complete"})
    assert (done.status_code, done.headers["location"]) == (303, ONBOARDING["return_url"])
    state = await books.get("/v1/account", None, account)
    assert (state["charges_enabled"], state["payouts_enabled"]) == (True, True)
    assert state["requirements"]["currently_due"] == []
    assert (await books.pay(account))["status"] == "succeeded"


async def test_a_link_is_good_for_one_visit(books: Books) -> None:
    account = await books.account(outcome=None)
    link = await books.post("/v1/account_links", {"account": account, **ONBOARDING})
    assert (await books.client.get(link["url"])).status_code == 200
    again = await books.client.get(link["url"])
    assert again.headers["location"] == ONBOARDING["refresh_url"]
    assert (await books.client.post(link["url"], data={"outcome": "no"})).status_code == 400
    await books.client.post(link["url"], data={"outcome": "restrict"})
    late = await books.client.post(link["url"], data={"outcome": "complete"})
    assert late.headers["location"] == ONBOARDING["refresh_url"]
    assert not (await books.get(f"/v1/accounts/{account}"))["charges_enabled"]
    unknown = link["url"][:-4]
    assert (await books.client.get(unknown)).status_code == 404


@pytest.mark.parametrize(
    ("outcome", "reason"), [("restrict", "requirements.past_due"), ("reject", "rejected.other")]
)
async def test_onboarding_may_fail(books: Books, outcome: str, reason: str) -> None:
    account = await books.account(outcome)
    state = await books.get(f"/v1/accounts/{account}")
    assert state["requirements"]["disabled_reason"] == reason
    assert (state["details_submitted"], state["charges_enabled"]) == (True, False)


async def test_an_account_never_sees_the_objects_of_another(books: Books) -> None:
    first, second = await books.account(), await books.account()
    intent = await books.pay(first)
    customer = await books.post("/v1/customers", {"name": "Clara"}, first)
    refund = await books.post("/v1/refunds", {"payment_intent": intent["id"]}, first)
    dispute = await books.post(
        "/_test/disputes", {"payment_intent": (await books.pay(first))["id"]}, first
    )
    paths = [
        *(f"/v1/payment_intents/{intent['id']}", f"/v1/charges/{intent['latest_charge']}"),
        *(f"/v1/customers/{customer['id']}", f"/v1/payment_methods/{intent['payment_method']}"),
        *(f"/v1/refunds/{refund['id']}", f"/v1/disputes/{dispute['id']}"),
        f"/v1/balance_transactions/{refund['balance_transaction']}",
    ]
    for path in paths:
        assert (await books.get(path, None, first))["object"]
        for stranger in (second, None):
            missing = await books.get(path, None, stranger, expect=404)
            assert missing["code"] == "resource_missing", path
    kinds = ("payment_intents", "charges", "refunds", "disputes", "customers", "events")
    for kind in (*kinds, "balance_transactions", "payment_methods", "payouts"):
        for stranger in (second, None):
            listed = await books.get(f"/v1/{kind}", None, stranger)
            of_first = [each for each in listed["data"] if each.get("account") == first]
            assert not of_first
            assert kind == "events" or listed["data"] == [], kind


async def test_no_call_acts_on_the_objects_of_another_account(books: Books) -> None:
    first, second = await books.account(), await books.account()
    intent = await books.pay(first, confirm="false")
    for action in ("confirm", "cancel"):
        await books.post(f"/v1/payment_intents/{intent['id']}/{action}", None, second, expect=404)
    paid = await books.pay(first)
    fields = {"payment_intent": paid["id"]}
    error = await books.post("/v1/refunds", fields, second, expect=404)
    assert (error["code"], error["param"]) == ("resource_missing", "payment_intent")
    method = {"amount": 500, "currency": "pln", "payment_method": paid["payment_method"]}
    error = await books.post("/v1/payment_intents", method, second, expect=400)
    assert error["param"] == "payment_method"
    error = await books.get(
        "/v1/payment_intents", {"starting_after": paid["id"]}, second, expect=400
    )
    assert error["param"] == "starting_after"
    error = await books.get("/v1/charges", {"expand[]": "data.balance_transaction"}, second)
    assert error["data"] == []


async def test_a_disconnected_account_is_out_of_reach(books: Books) -> None:
    account = await books.account()
    intent = await books.pay(account)
    await books.post("/oauth/deauthorize", {"client_id": "ca_1", "stripe_user_id": account})
    for path in ("/v1/balance", f"/v1/payment_intents/{intent['id']}", "/v1/events"):
        error = await books.get(path, None, account, expect=403)
        assert error["code"] == "account_invalid"
    await books.get(f"/v1/accounts/{account}", expect=403)
    assert (await books.get("/v1/accounts"))["data"] == []
    await until(lambda: "account.application.deauthorized" in books.receiver.types(CONNECT_HOOK))
    await books.post("/_test/disputes", {"payment_intent": intent["id"]}, account)
    other = await books.account()
    await books.pay(other)
    await until(lambda: "payment_intent.succeeded" in events_of(books, other))
    assert "charge.dispute.created" not in events_of(books, account)


def events_of(books: Books, account: str) -> list[str]:
    """Return the types of the events that were received of an account."""
    return [event["type"] for _, event in books.receiver.events if event.get("account") == account]


@pytest.mark.parametrize("path", ["/_test/accounts/{}/deauthorize", "/v1/accounts/{}"])
async def test_an_owner_or_the_platform_ends_the_connection(books: Books, path: str) -> None:
    account = await books.account()
    method = "POST" if "_test" in path else "DELETE"
    await books.send(method, path.format(account))
    assert (await books.get("/v1/balance", None, account, expect=403))["type"]
    await until(lambda: "account.application.deauthorized" in events_of(books, account))


async def test_stripe_may_restrict_an_account_in_the_middle_of_a_purchase(books: Books) -> None:
    account = await books.account()
    intent = await books.pay(account, confirm="false")
    state = {"charges_enabled": "false", "currently_due[]": "individual.id_number"}
    await books.post(f"/_test/accounts/{account}", state | {"disabled_reason": "listed"})
    error = await books.post(
        f"/v1/payment_intents/{intent['id']}/confirm", None, account, expect=400
    )
    assert error["code"] == "capability_not_active"
    await until(lambda: events_of(books, account).count("account.updated") == 2)
    updates = [e for _, e in books.receiver.events if e["type"] == "account.updated"]
    content = updates[-1]["data"]
    assert content["object"]["requirements"]["currently_due"] == ["individual.id_number"]
    assert content["previous_attributes"]["charges_enabled"] is True


async def test_country_and_currency_may_not_fit(books: Books) -> None:
    error = await books.post("/v1/accounts", {"country": "KP"}, expect=400)
    assert (error["code"], error["param"]) == ("country_unsupported", "country")
    account = await books.account()
    changed = await books.post(
        f"/_test/accounts/{account}", {"country": "DE", "supported_currencies[]": "eur"}
    )
    assert (changed["country"], changed["default_currency"]) == ("DE", "eur")
    payment = {"amount": 500, "currency": "pln"}
    error = await books.post("/v1/payment_intents", payment, account, expect=400)
    assert error["param"] == "currency"
    assert (await books.pay(account, currency="eur"))["status"] == "succeeded"


async def test_accounts_are_the_platforms_alone(books: Books) -> None:
    account = await books.account()
    await books.post("/v1/accounts", {"type": "standard"}, account, expect=403)
    await books.get("/v1/balance", None, "acct_unknown", expect=403)
    both = {"type": "standard", "controller[fees][payer]": "account"}
    await books.post("/v1/accounts", both, expect=400)
    renamed = await books.post(f"/v1/accounts/{account}", {"metadata[organization]": "7"})
    assert renamed["metadata"] == {"organization": "7"}
    rejected = await books.post(f"/v1/accounts/{account}/reject", {"reason": "fraud"})
    assert rejected["requirements"]["disabled_reason"] == "rejected.fraud"
    assert (await books.get("/v1/accounts"))["data"][0]["id"] == account
