"""A process that is killed while it charges or refunds on an organization's own account.

Meanwhile the organization may have connected another account: no money lands there that was charged
on the first one, and none is refunded from there.
"""

from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from services.payments import queries
from services.payments.gateways import AccountMode, Gateways
from services.payments.gateways.stripe import StripeSettings
from services.payments.models import RefundSource
from services.payments.service import payments, refunds
from services.payments.service.reconciliation import Reconciler
from services.payments.settings import Settings
from services.payments.tests.connections import connect, disconnect
from services.payments.tests.killed import run_until_killed, work_for
from services.payments.tests.signals import ORGANIZATION, OTHER_ORGANIZATION, CardIssuer, order
from services.payments.tests.test_charges import charge
from services.payments.tests.test_first_charges import first, terms_of
from services.payments.tests.test_killed_charges import POINTS
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]
REFUND_POINTS = [
    "refund.begun",
    "refund.made",
    "refund.entered",
    "transaction.before_commit",
    "transaction.committed",
]
CENTS = 39999


@pytest.fixture
def accounts() -> AccountMode:
    return AccountMode.ORGANIZATION


@pytest.fixture
async def account(database: Database, issuer: CardIssuer) -> str:
    """The account of the organization; another organization has one as well."""
    await connect(database, await issuer.account(), OTHER_ORGANIZATION)
    account = await issuer.account()
    await connect(database, account)
    return account


async def replace(database: Database, issuer: CardIssuer, account: str) -> str:
    """Connect another account of the organization instead of its present one; return its id."""
    await disconnect(database, account)
    other = await issuer.account()
    await connect(database, other)
    return other


async def money_on(issuer: CardIssuer, account: str | None) -> tuple[int, int]:
    """Return what was taken and what was given back on an account, in minor units."""
    own = issuer.of(account) if account else issuer
    done = [i["latest_charge"] for i in await own.intents() if i["status"] == "succeeded"]
    return sum(c["amount"] for c in done), sum(c["amount_refunded"] for c in done)


async def money_elsewhere(database: Database, issuer: CardIssuer, account: str) -> set[int]:
    """Return what was taken on the installation's and on all other accounts."""
    rows = await database.rows("SELECT gateway_account FROM payment_accounts")
    others = [None, *(row["gateway_account"] for row in rows if row["gateway_account"] != account)]
    return {(await money_on(issuer, other))[0] for other in others}


@pytest.mark.parametrize("is_replaced", [False, True], ids=["same", "replaced"])
@pytest.mark.parametrize("point", POINTS)
async def test_a_charge_that_is_killed_takes_money_once_on_one_account(
    client: httpx.AsyncClient,
    vouchers: Headers,
    gateways: Gateways,
    transactions: Transactions,
    reconciler: Reconciler,
    settings: Settings,
    stripe_settings: StripeSettings,
    issuer: CardIssuer,
    database: Database,
    account: str,
    tmp_path: Path,
    point: str,
    is_replaced: bool,
) -> None:
    body = first()
    work = work_for(settings, stripe_settings, gateways.accounts, charge=body)
    await run_until_killed("killed_charge", work, point, tmp_path / "points")
    current = await replace(database, issuer, account) if is_replaced else account
    async with transactions.system() as session:
        await payments.open_missing(session, gateways, terms_of(body))
    await reconciler.settle_unfinished()
    settled = await charge(client, vouchers, body | {"first": False})
    assert settled["status"] == "succeeded"
    [payment] = await database.rows("SELECT gateway_account FROM payment_transactions")
    charged_on = payment["gateway_account"]
    assert charged_on in (account, current)
    assert await money_on(issuer, charged_on) == (CENTS, 0)
    assert await money_elsewhere(database, issuer, charged_on) == {0}
    assert len(await database.rows("SELECT * FROM invoices")) == 1


@pytest.mark.parametrize("is_replaced", [False, True], ids=["same", "replaced"])
@pytest.mark.parametrize("point", REFUND_POINTS)
async def test_a_refund_that_is_killed_gives_money_back_once_from_the_account_that_was_paid(
    client: httpx.AsyncClient,
    vouchers: Headers,
    gateways: Gateways,
    transactions: Transactions,
    reconciler: Reconciler,
    settings: Settings,
    stripe_settings: StripeSettings,
    issuer: CardIssuer,
    database: Database,
    account: str,
    tmp_path: Path,
    point: str,
    is_replaced: bool,
) -> None:
    paid = await charge(client, vouchers, order(organization_id=ORGANIZATION))
    async with transactions.system() as session:
        payment = await queries.lock_payment(session, paid["transaction_id"])
        refund = await refunds.create_refund(
            session, payment, Decimal(100), source=RefundSource.STAFF
        )
    work = work_for(settings, stripe_settings, gateways.accounts, refund_id=refund.id)
    await run_until_killed("killed_charge", work, point, tmp_path / "points")
    if is_replaced:
        current = await replace(database, issuer, account)
        await charge(client, vouchers, order(organization_id=ORGANIZATION))
        assert await money_on(issuer, current) == (CENTS, 0)
    for _ in range(2):
        await reconciler.settle_refunds()
    [row] = await database.rows("SELECT status FROM refunds")
    assert row["status"] == "succeeded"
    assert await money_on(issuer, account) == (CENTS, 10_000)
    if is_replaced:
        assert await money_on(issuer, current) == (CENTS, 0), "nothing was refunded from there"
