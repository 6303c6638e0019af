"""Money never lands on another account than its organization's, and is never refunded from one.

The machine of `test_ledger` acts on connected accounts of three organizations, which the gateway
restricts and the organizations replace meanwhile. After every step each account's books are those
of its organization's payments, and the installation's own account has none.
"""

from collections.abc import Iterable

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from services.payments.gateways import AccountMode
from services.payments.gateways.stripe import StripeSettings
from services.payments.tests.connections import connect, disconnect
from services.payments.tests.test_ledger import ORGANIZATIONS, Books, World, require_balance
from shared.testing import Database, Tokens


class AccountBooks(Books):
    """The same on connected accounts, which are restricted and replaced meanwhile."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.current: dict[int, str] = {}
        self.owners: dict[str, int] = {}
        for organization_id in ORGANIZATIONS:
            self._connect(organization_id)

    @rule(organization_id=st.sampled_from(ORGANIZATIONS))
    def replace_the_account(self, organization_id: int) -> None:
        self.world.run(disconnect(self.world.database, self.current[organization_id]))
        self._connect(organization_id)

    @rule(
        organization_id=st.sampled_from(ORGANIZATIONS),
        may_charge=st.booleans(),
        is_reported=st.booleans(),
    )
    def restrict_the_account(
        self, organization_id: int, may_charge: bool, is_reported: bool
    ) -> None:
        """The gateway decides at once; our row is as late as its webhook."""
        account = self.current[organization_id]
        enabled = str(may_charge).lower()
        self.world.run(self.world.issuer.change_account(account, charges_enabled=enabled))
        if is_reported or may_charge:
            self._rows(
                "UPDATE payment_accounts SET charges_enabled = $1 WHERE gateway_account = $2",
                may_charge,
                account,
            )

    @invariant()
    def each_payment_is_on_an_account_of_its_organization(self) -> None:
        for payment in self._rows("SELECT * FROM payment_transactions"):
            account, has_intent = payment["gateway_account"], payment["gateway_transaction_id"]
            assert (account is None) == (has_intent is None)
            assert account is None or self.owners[account] == payment["organization_id"]

    @invariant()
    def each_accounts_books_are_its_organizations(self) -> None:
        assert self.world.run(self.world.issuer.intents()) == [], "none is the installation's"
        for account, organization_id in self.owners.items():
            intents = self.world.run(self.world.issuer_of(account).intents())
            assert {i["metadata"]["organization_id"] for i in intents} <= {str(organization_id)}
            [ours] = self._rows(
                "SELECT coalesce(sum(captured_amount), 0) AS taken,"
                " coalesce(sum(refunded_amount), 0) AS returned"
                " FROM payment_transactions WHERE gateway_account = $1",
                account,
            )
            charges = [i["latest_charge"] for i in intents if i["status"] == "succeeded"]
            assert ours["taken"] * 100 <= sum(charge["amount"] for charge in charges)
            assert ours["returned"] * 100 <= sum(charge["amount_refunded"] for charge in charges)

    def _connect(self, organization_id: int) -> None:
        account = self.world.run(self.world.issuer.account())
        self.world.run(connect(self.world.database, account, organization_id))
        self.current[organization_id] = account
        self.owners[account] = organization_id

    def _accounts(self) -> Iterable[str | None]:
        return [None, *self.owners]

    def _account_of(self, organization_id: int) -> str | None:
        return self.current[organization_id]


def test_the_books_of_each_account_balance(
    session_database: Database, stripe_settings: StripeSettings, tokens: Tokens
) -> None:
    mode = AccountMode.ORGANIZATION
    require_balance(AccountBooks, mode, session_database, stripe_settings, tokens)
