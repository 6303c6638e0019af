"""Every operation of this server. What is not listed is answered with 501."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploy.local.card_gateway import (
    accounts,
    application_fees,
    balance,
    charges,
    control,
    customers,
    disputes,
    onboarding,
    payment_intents,
    payment_methods,
    payouts,
    refunds,
    setup_intents,
    webhooks,
)
from deploy.local.card_gateway.call import Call
from deploy.local.card_gateway.parameters import Parameters
from deploy.local.card_gateway.store import Resource

Handler = Callable[[Call, Any, str], Resource]


@dataclass(frozen=True)
class Operation:
    """A method and path, its parameters, and the function that answers it.

    The function gets the id in the path, or an empty text. A browser may use a `is_public` one with
    a publishable key.
    """

    method: str
    path: str
    handler: Handler
    parameters: type[Parameters] = Parameters
    is_public: bool = False

    @property
    def name(self) -> str:
        """The method and path, as an error names them."""
        return f"{self.method} {self.path}"


def _resource(
    path: str,
    module: Any,
    *,
    create: type[Parameters] | None = None,
    change: type[Parameters] | None = None,
    page: type[Parameters] | None = None,
    retrieve: type[Parameters] = Parameters,
    is_public: bool = False,
) -> list[Operation]:
    """Return the usual operations of a resource."""
    one = f"{path}/{{id}}"
    operations = [
        Operation("GET", one, module.retrieve, retrieve, "client_secret" in retrieve.model_fields)
    ]
    if create:
        operations.append(Operation("POST", path, module.create, create, is_public))
    if change:
        operations.append(Operation("POST", one, module.update, change))
    if page:
        operations.append(Operation("GET", path, module.list_all, page))
    return operations


_INTENTS, _SETUPS = "/v1/payment_intents", "/v1/setup_intents"
_METHODS = "/v1/payment_methods"

_PAYMENTS = [
    *_resource(
        _INTENTS,
        payment_intents,
        create=payment_intents.PaymentIntentCreate,
        change=payment_intents.PaymentIntentUpdate,
        page=payment_intents.PaymentIntentList,
        retrieve=payment_intents.Retrieval,
    ),
    Operation(
        *("POST", f"{_INTENTS}/{{id}}/confirm", payment_intents.confirm),
        *(payment_intents.Confirmation, True),
    ),
    Operation(
        "POST", f"{_INTENTS}/{{id}}/cancel", payment_intents.cancel, payment_intents.Cancellation
    ),
    *_resource("/v1/charges", charges, page=charges.ChargeList),
    *_resource(
        "/v1/refunds",
        refunds,
        create=refunds.RefundCreate,
        change=refunds.RefundUpdate,
        page=refunds.RefundList,
    ),
    *_resource("/v1/disputes", disputes, change=disputes.DisputeUpdate, page=disputes.DisputeList),
    Operation("POST", "/v1/disputes/{id}/close", disputes.close),
]
_CARDS = [
    Operation(
        "POST", "/v1/tokens", payment_methods.create_token, payment_methods.TokenCreate, True
    ),
    *_resource(
        _METHODS,
        payment_methods,
        create=payment_methods.PaymentMethodCreate,
        change=payment_methods.PaymentMethodUpdate,
        page=payment_methods.PaymentMethodList,
        is_public=True,
    ),
    Operation(
        "POST", f"{_METHODS}/{{id}}/attach", payment_methods.attach, payment_methods.Attachment
    ),
    Operation("POST", f"{_METHODS}/{{id}}/detach", payment_methods.detach),
    *_resource(
        "/v1/customers",
        customers,
        create=customers.CustomerFields,
        change=customers.CustomerFields,
        page=customers.CustomerList,
    ),
    Operation("DELETE", "/v1/customers/{id}", customers.delete),
    Operation(
        *("GET", "/v1/customers/{id}/payment_methods", payment_methods.list_of_customer),
        payment_methods.PaymentMethodList,
    ),
    *_resource(
        _SETUPS,
        setup_intents,
        create=setup_intents.SetupIntentCreate,
        change=setup_intents.SetupIntentUpdate,
        page=setup_intents.SetupIntentList,
        retrieve=setup_intents.SetupRetrieval,
    ),
    Operation(
        *("POST", f"{_SETUPS}/{{id}}/confirm", setup_intents.confirm),
        *(setup_intents.SetupConfirmation, True),
    ),
    Operation(
        "POST", f"{_SETUPS}/{{id}}/cancel", setup_intents.cancel, setup_intents.SetupCancellation
    ),
]
_BALANCE = [
    Operation("GET", "/v1/balance", balance.retrieve_balance),
    *_resource("/v1/balance_transactions", balance, page=balance.TransactionList),
    *_resource("/v1/payouts", payouts, create=payouts.PayoutCreate, page=payouts.PayoutList),
    Operation("POST", "/v1/payouts/{id}/cancel", payouts.cancel),
    *_resource("/v1/application_fees", application_fees, page=application_fees.ApplicationFeeList),
]
_CONNECT = [
    Operation("GET", "/v1/account", accounts.retrieve_own),
    *_resource(
        "/v1/accounts",
        accounts,
        create=accounts.AccountCreate,
        change=accounts.AccountFields,
        page=accounts.AccountList,
    ),
    Operation("POST", "/v1/accounts/{id}/reject", accounts.reject, accounts.Rejection),
    Operation("DELETE", "/v1/accounts/{id}", accounts.delete),
    Operation("POST", "/v1/account_links", onboarding.create, onboarding.AccountLinkCreate),
    Operation("POST", "/oauth/deauthorize", accounts.deauthorize, accounts.Deauthorization),
    *_resource(
        "/v1/webhook_endpoints",
        webhooks,
        create=webhooks.EndpointCreate,
        change=webhooks.EndpointUpdate,
        page=webhooks.EndpointList,
    ),
    Operation("DELETE", "/v1/webhook_endpoints/{id}", webhooks.delete),
    Operation("GET", "/v1/events/{id}", webhooks.retrieve_event),
    Operation("GET", "/v1/events", webhooks.list_events, webhooks.EventList),
]
CONTROL = "/_test/"
_CONTROL = [
    Operation("POST", "/_test/authentications", control.authenticate, control.BankAnswer),
    Operation("POST", "/_test/accounts/{id}", control.change_account, control.AccountState),
    Operation("POST", "/_test/accounts/{id}/deauthorize", control.deauthorize),
    Operation("POST", "/_test/disputes", control.dispute, control.DisputeCreate),
    Operation("POST", "/_test/disputes/{id}", control.decide_dispute, control.DisputeDecision),
    Operation("POST", "/_test/refunds/{id}", control.settle_refund, control.RefundResult),
    Operation("POST", "/_test/payouts", control.pay_out, control.AutomaticPayout),
    Operation("POST", "/_test/payouts/{id}", control.settle_payout, control.PayoutResult),
    Operation("DELETE", "/_test/data", control.clear),
]
OPERATIONS = [*_PAYMENTS, *_CARDS, *_BALANCE, *_CONNECT, *_CONTROL]
_BY_SHAPE = {
    (operation.method, *operation.path.strip("/").split("/")): operation for operation in OPERATIONS
}
_ID_PLACE = 3


def find_operation(method: str, path: str) -> tuple[Operation, str] | None:
    """Return the operation of a request, and the id in its path or an empty text."""
    shape = (method, *path.strip("/").split("/"))
    if operation := _BY_SHAPE.get(shape):
        return operation, ""
    if len(shape) <= _ID_PLACE:
        return None
    general = (*shape[:_ID_PLACE], "{id}", *shape[_ID_PLACE + 1 :])
    operation = _BY_SHAPE.get(general)
    return (operation, shape[_ID_PLACE]) if operation else None
