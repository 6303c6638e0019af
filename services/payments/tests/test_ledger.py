"""Money is never lost, doubled or invented, in any order of events.

Hypothesis buys, pays, fails, refunds, voids, disputes, loses requests and answers, ends processes
in the middle, delivers webhooks again, shuffled, late or never, and reconciles. After every step
our books claim nothing that the card gateway does not have; once reconciled, both say the same to
the cent.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

import asyncpg
import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from services.payments import queries
from services.payments.app import NAME
from services.payments.events import CATALOGUE
from services.payments.gateways import AccountMode, Gateway, Gateways
from services.payments.gateways.manual import ManualGateway
from services.payments.gateways.stripe import StripeGateway, StripeSettings
from services.payments.models import Method, RefundSource
from services.payments.schemas import ChargeCreate, QuotedRefund
from services.payments.service import charges, payments, refund_attempts, refunds, webhooks
from services.payments.settings import Settings
from services.payments.tests.network import Crash, UnreliableNetwork, to_path
from services.payments.tests.signals import (
    CONNECT_WEBHOOK_SECRET,
    WEBHOOK_SECRET,
    CardIssuer,
    dispute_of,
    event,
    order,
    signature,
)
from services.payments.worker import reconciler_of
from shared.db import make_engine
from shared.errors import AppError
from shared.testing import Database, Tokens
from shared.transactions import Transactions

T = TypeVar("T")

ORGANIZATIONS = (7, 8, 9)
VISA, DECLINED, SECURE = "pm_card_visa", "pm_card_chargeCustomerFail", "4000002500003155"
FAULTS = st.sampled_from(
    [None, None, None, None]
    + [
        (way, path, crashing)
        for way in ("request", "answer")
        for path in ("/payment_intents", "/confirm")
        for crashing in (False, True)
    ]
)
REFUND_FAULTS = st.sampled_from(
    [None, None, None]
    + [(way, "/refunds", crashing) for way in ("request", "answer") for crashing in (False, True)]
)
Fault = tuple[str, str, bool] | None
"""What is lost: a request or its answer, on which path, and whether our process ends with it."""


@dataclass
class World:
    """Payments, the card gateway, and the network between them."""

    database: Database
    stripe: StripeSettings
    settings: Settings
    runner: asyncio.Runner
    accounts: AccountMode = AccountMode.INSTALLATION
    network: UnreliableNetwork = field(default_factory=UnreliableNetwork)

    def __post_init__(self) -> None:
        self.run(self._open())

    async def _open(self) -> None:
        card, manual = StripeGateway(self.stripe, self.network), ManualGateway()
        cards = {Method.CREDIT_CARD: card}
        self.card = card
        by_method: dict[str, Gateway] = {method: cards.get(method, manual) for method in Method}
        self.gateways = Gateways(by_method, accounts=self.accounts)
        self.engine = make_engine(self.settings.database_url)
        self.admin = await asyncpg.connect(self.database.admin_url)
        await self.admin.execute(f"SET search_path = {NAME}")
        self.transactions = Transactions(self.engine, f"carnet/{NAME}", CATALOGUE)
        self.begin = self.transactions.system
        self.reconciler = reconciler_of(self.transactions, self.gateways, self.settings)
        key = self.stripe.api_key.get_secret_value()
        self.console = httpx.AsyncClient(base_url=self.stripe.api_base, auth=(key, ""))
        self.issuer = CardIssuer(self.console)

    def run(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return self.runner.run(awaited())

    def close(self) -> None:
        self.run(self._close())

    async def _close(self) -> None:
        await self.gateways.aclose()
        await self.console.delete("/_test/data")
        await self.console.aclose()
        await self.admin.close()
        await self.engine.dispose()
        await self.database.clear()

    def issuer_of(self, account: str | None) -> CardIssuer:
        """Return the card gateway with the books of an account."""
        return self.issuer.of(account) if account else self.issuer

    def suffer(self, fault: Fault) -> None:
        """Lose what is sent to a path, or its answer, from now on."""
        self.network.heal()
        if fault is not None:
            way, path, self.network.crashing = fault
            setattr(self.network, f"lose_{way}", to_path(path))


class Books(RuleBasedStateMachine):
    """What may happen to payments."""

    orders = Bundle("orders")
    bodies = Bundle("bodies")

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    @initialize()
    def begin(self) -> None:
        self.world.network.heal()

    @rule(
        target=orders,
        organization_id=st.sampled_from(ORGANIZATIONS),
        amount=st.sampled_from(["0.50", "100.00", "399.99"]),
        card=st.sampled_from([VISA, VISA, DECLINED, SECURE, None]),
        first=st.booleans(),
        fault=FAULTS,
    )
    def purchase(
        self, organization_id: int, amount: str, card: str | None, first: bool, fault: Fault
    ) -> ChargeCreate:
        account = self._account_of(organization_id)
        is_secure = card == SECURE
        token = self.world.run(self.world.issuer_of(account).card(SECURE)) if is_secure else card
        terms = order(
            organization_id=organization_id, amount=amount, payment_token=token, first=first
        )
        body = ChargeCreate.model_validate(terms)
        self.charge(body, fault)
        self.world.run(self._receive_purchase(body))
        return body

    async def _receive_purchase(self, body: ChargeCreate) -> None:
        """Handle the event of the purchase: a crash in the first call has left no payment."""
        async with self.world.begin() as session:
            await payments.open_missing(session, self.world.gateways, body)

    @rule(body=orders, fault=FAULTS)
    def charge(self, body: ChargeCreate, fault: Fault) -> None:
        self.world.suffer(fault)
        with suppress(AppError, Crash):
            self.world.run(charges.charge(self.world.begin, self.world.gateways, body))
        self.world.network.heal()

    @rule(body=orders, success=st.booleans())
    def confirm_with_the_bank(self, body: ChargeCreate, success: bool) -> None:
        payment = self._payment(body)
        if payment["status"] == "requires_action":
            action = {"client_secret": self._intent(payment)["client_secret"]}
            with suppress(httpx.HTTPStatusError):  # it was confirmed before
                self.world.run(self._issuer_of(payment).authenticate(action, success=success))

    @rule(body=orders)
    def return_from_the_bank(self, body: ChargeCreate) -> None:
        with suppress(AppError):
            payment_id = self._payment(body)["id"]
            self.world.run(
                charges.confirm_payment(self.world.begin, self.world.gateways, payment_id, None)
            )

    @rule(body=orders, part=st.sampled_from(["0.10", "50.00", None]), fault=REFUND_FAULTS)
    def refund(self, body: ChargeCreate, part: str | None, fault: Fault) -> None:
        self.world.suffer(fault)
        with suppress(AppError, Crash):
            self.world.run(self._refund(self._payment(body)["id"], part))
        self.world.network.heal()

    async def _refund(self, payment_id: int, part: str | None) -> None:
        async with self.world.transactions.system() as session:
            payment = await queries.lock_payment(session, payment_id)
            amount = Decimal(part) if part else None
            refund = await refunds.create_refund(
                session, payment, amount, source=RefundSource.STAFF
            )
        await self._attempt(refund.id)

    async def _attempt(self, refund_id: int) -> None:
        world = self.world
        await refund_attempts.attempt_refund(world.begin, world.gateways, refund_id)

    @rule(
        body=orders,
        quote_id=st.integers(1, 5),
        part=st.sampled_from(["0.10", "50.00", "399.99"]),
        fault=REFUND_FAULTS,
    )
    def refund_by_quote(self, body: ChargeCreate, quote_id: int, part: str, fault: Fault) -> None:
        """By the call of vouchers or by its event, or both: once per quote."""
        self.world.suffer(fault)
        payment_id = self._payment(body)["id"]
        known = self._rows("SELECT transaction_id FROM refunds WHERE quote_id = $1", quote_id)
        if not known or known[0]["transaction_id"] == payment_id:
            with suppress(AppError, Crash):
                self.world.run(self._refund_quoted(payment_id, quote_id, part))
        self.world.network.heal()

    async def _refund_quoted(self, payment_id: int, quote_id: int, part: str) -> None:
        order = QuotedRefund(
            quote_id=quote_id, transaction_id=payment_id, amount=Decimal(part), currency="USD"
        )
        for _ in range(2):
            async with self.world.transactions.system() as session:
                refund = await refunds.create_quoted_refund(session, order)
        await self._attempt(refund.id)

    @rule(
        target=bodies,
        body=orders,
        number=st.integers(1, 2),
        status=st.sampled_from(["needs_response", "won", "lost"]),
        amount=st.sampled_from([50, 5000]),
    )
    def the_bank_disputes(self, body: ChargeCreate, number: int, status: str, amount: int) -> bytes:
        """The end may be reported before the beginning, or alone."""
        payment = self._payment(body)
        intent_id = payment["gateway_transaction_id"] or "pi_of_nobody"
        kind = "created" if status == "needs_response" else "closed"
        content = dispute_of(intent_id, f"dp_{intent_id}_{number}", status=status, amount=amount)
        return self._event(payment, f"charge.dispute.{kind}", content)

    @rule(body=orders, part=st.sampled_from([10, 5000]))
    def refund_at_the_console(self, body: ChargeCreate, part: int) -> None:
        """The gateway itself refuses what is more than was taken."""
        payment = self._payment(body)
        if payment["gateway_transaction_id"] and self._promised(payment) == 0:
            charge = self._intent(payment)["latest_charge"]
            if charge and charge["status"] == "succeeded":
                left = charge["amount"] - charge["amount_refunded"]
                if part <= left:
                    self.world.run(self._issuer_of(payment).refund(charge["payment_intent"], part))

    @rule(body=orders)
    def void(self, body: ChargeCreate) -> None:
        self.world.run(self._void(body.voucher_id))

    async def _void(self, voucher_id: int) -> None:
        async with self.world.transactions.system() as session:
            await payments.void_payment_of_voucher(session, voucher_id)

    @rule(target=bodies, body=orders)
    def the_gateway_tells(self, body: ChargeCreate) -> bytes:
        """The present report of a webhook: it may arrive later, repeatedly, or never."""
        payment = self._payment(body)
        if not payment["gateway_transaction_id"]:
            return event("customer.created", {"id": "cus_1"})
        intent = self._intent(payment)
        charge = intent["latest_charge"]
        if charge and charge["amount_refunded"]:
            return self._event(payment, "charge.refunded", charge)
        kinds = {"succeeded": "succeeded", "canceled": "canceled"}
        kind = kinds.get(intent["status"], "processing")
        return self._event(payment, f"payment_intent.{kind}", intent)

    @rule(body=bodies)
    def deliver(self, body: bytes) -> None:
        self.world.run(self._store(body))

    @rule(body=consumes(bodies))
    def drop(self, body: bytes) -> None:
        assert body

    async def _store(self, body: bytes) -> None:
        connected = b'"account"' in body
        secret = CONNECT_WEBHOOK_SECRET if connected else WEBHOOK_SECRET
        headers = {"stripe-signature": signature(body, secret=secret)}
        notice, report = webhooks.verify(self.world.card, body, headers, connected=connected)
        async with self.world.transactions.system() as session:
            await webhooks.store(session, self.world.card, notice, body, report)

    @rule()
    def process_webhooks(self) -> None:
        self.world.run(webhooks.process_due(self.world.transactions, self.world.gateways))

    @rule()
    def reconcile(self) -> None:
        self.world.run(self.world.reconciler.settle_unfinished())

    @rule()
    def everything_is_reconciled(self) -> None:
        self.world.network.heal()
        for _ in range(2):
            self.world.run(self.world.reconciler.settle_unfinished())
            self.world.run(self.world.reconciler.catch_up())
            self._rows("UPDATE payment_accounts SET catch_up_attempted_at = NULL")
            self.world.run(self.world.reconciler.catch_up_accounts())
            self.process_webhooks()
            self.world.run(self.world.reconciler.settle_refunds())
        for payment in self._rows("SELECT * FROM payment_transactions"):
            taken, returned = self._gateway_ledger(payment)
            assert (payment["captured_amount"], payment["refunded_amount"]) == (taken, returned)

    @invariant()
    def our_books_claim_nothing_that_the_gateway_does_not_have(self) -> None:
        for payment in self._rows("SELECT * FROM payment_transactions"):
            taken, returned = self._gateway_ledger(payment)
            assert payment["captured_amount"] <= taken
            assert payment["refunded_amount"] <= returned <= taken

    @invariant()
    def invoices_and_refunds_say_what_the_payments_say(self) -> None:
        wrong = self._rows(
            "SELECT p.id FROM payment_transactions p WHERE status <> 'quarantined' AND"
            " (captured_amount, refunded_amount, refunded_amount) IS DISTINCT FROM"
            " (coalesce((SELECT sum(total) FROM invoices i WHERE i.transaction_id = p.id"
            "   AND kind = 'invoice'), 0),"
            "  coalesce((SELECT sum(total) FROM invoices i WHERE i.transaction_id = p.id"
            "   AND kind = 'credit_note'), 0),"
            "  coalesce((SELECT sum(amount) FROM refunds r WHERE r.transaction_id = p.id"
            "   AND status = 'succeeded'), 0))"
        )
        assert wrong == []

    @invariant()
    def no_refund_is_begun_for_what_is_not_there(self) -> None:
        assert (
            self._rows(
                "SELECT p.id FROM payment_transactions p WHERE captured_amount < (SELECT"
                " coalesce(sum(amount), 0) FROM refunds r WHERE r.transaction_id = p.id"
                " AND status <> 'failed')"
            )
            == []
        )

    @invariant()
    def what_is_disputed_is_held(self) -> None:
        assert (
            self._rows(
                "SELECT p.id FROM payment_transactions p WHERE disputed_amount <> least(amount,"
                " (SELECT coalesce(sum(d.amount), 0) FROM disputes d WHERE d.transaction_id = p.id"
                "  AND status <> 'won'))"
            )
            == []
        )

    @invariant()
    def numbers_have_no_gap(self) -> None:
        assert (
            self._rows(
                "SELECT s.kind FROM invoice_series s WHERE last_sequence <>"
                " (SELECT count(*) FROM invoices i WHERE i.kind = s.kind AND i.year = s.year"
                "  AND i.organization_id = s.organization_id)"
            )
            == []
        )

    @invariant()
    def every_voucher_is_charged_once_at_most(self) -> None:
        paid = [
            intent["metadata"]["voucher_id"]
            for account in self._accounts()
            for intent in self.world.run(self.world.issuer_of(account).intents())
            if intent["status"] == "succeeded"
        ]
        assert len(paid) == len(set(paid))

    def teardown(self) -> None:
        try:
            self.everything_is_reconciled()
        finally:
            self.world.close()

    def _accounts(self) -> Iterable[str | None]:
        """Return every account at the gateway, with None for the installation's own."""
        return [None]

    def _account_of(self, organization_id: int) -> str | None:
        """Return the account that receives an organization's next payment."""
        return None

    def _issuer_of(self, payment: dict[str, Any]) -> CardIssuer:
        return self.world.issuer_of(payment["gateway_account"])

    def _event(self, payment: dict[str, Any], kind: str, content: dict[str, Any]) -> bytes:
        account = payment["gateway_account"]
        return event(kind, content, **({"account": account} if account else {}))

    def _rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in self.world.run(self.world.admin.fetch(query, *arguments))]

    def _payment(self, body: ChargeCreate) -> dict[str, Any]:
        [row] = self._rows(
            "SELECT * FROM payment_transactions WHERE voucher_id = $1", body.voucher_id
        )
        return row

    def _promised(self, payment: dict[str, Any]) -> int:
        rows = self._rows(
            "SELECT id FROM refunds WHERE transaction_id = $1 AND status = 'pending'",
            payment["id"],
        )
        return len(rows)

    def _intent(self, payment: dict[str, Any]) -> dict[str, Any]:
        return self.world.run(self._issuer_of(payment).intent(payment["gateway_transaction_id"]))

    def _gateway_ledger(self, payment: dict[str, Any]) -> tuple[Decimal, Decimal]:
        if not payment["gateway_transaction_id"]:
            return Decimal(0), Decimal(0)
        charge = self._intent(payment)["latest_charge"]
        if not charge or charge["status"] != "succeeded":
            return Decimal(0), Decimal(0)
        return Decimal(charge["amount"]) / 100, Decimal(charge["amount_refunded"]) / 100


def require_balance(
    machine: type[Books],
    accounts: AccountMode,
    database: Database,
    stripe: StripeSettings,
    tokens: Tokens,
) -> None:
    """Run a machine, whose examples begin with empty books, in a mode of accounts."""
    configured = Settings(
        database_url=database.url,
        rabbitmq_url="amqp://unused",
        reconcile_after_seconds=0.001,
        gateway_calls_per_second=1000,
        **tokens.settings(NAME),
    )
    with asyncio.Runner() as runner:

        class Here(machine):  # type: ignore[valid-type, misc]
            def __init__(self) -> None:
                super().__init__(World(database, stripe, configured, runner, accounts))

        run_state_machine_as_test(
            Here,
            settings=settings(
                max_examples=15,
                stateful_step_count=20,
                suppress_health_check=list(HealthCheck),
            ),
        )


def test_the_books_balance(
    session_database: Database, stripe_settings: StripeSettings, tokens: Tokens
) -> None:
    mode = AccountMode.INSTALLATION
    require_balance(Books, mode, session_database, stripe_settings, tokens)
