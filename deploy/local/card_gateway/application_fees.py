"""The platform's fees on payments of accounts: https://docs.stripe.com/api/application_fees."""

from deploy.local.card_gateway import balance
from deploy.local.card_gateway.call import APPLICATION, PLATFORM, Call
from deploy.local.card_gateway.parameters import ListParameters, Parameters
from deploy.local.card_gateway.store import Resource


class ApplicationFeeList(ListParameters):
    """GET /v1/application_fees."""

    charge: str | None = None


def collect(call: Call, charge: Resource, amount: int) -> Resource:
    """Store the fee of an account's charge in the books of the platform."""
    platform = call.for_account(PLATFORM)
    fields = {
        "account": call.book,
        "amount": amount,
        "amount_refunded": 0,
        "application": APPLICATION,
        "charge": charge["id"],
        "currency": charge["currency"],
        "originating_transaction": None,
        "refunded": False,
    }
    fee = platform.create("fee", "application_fee", fields)
    transaction = balance.record(platform, "application_fee", fee, amount)
    platform.save(fee, balance_transaction=transaction["id"])
    platform.emit("application_fee.created", fee)
    return fee


def give_back(call: Call, charge: Resource, refunded: int) -> int:
    """Return to the account its part of the fee of a refunded amount; return that part.

    https://docs.stripe.com/connect/direct-charges#issue-refunds: the part is proportional.
    """
    platform = call.for_account(PLATFORM)
    fee = platform.get("application_fee", charge["application_fee"])
    total = charge["amount_refunded"] + refunded
    due = fee["amount"] * total // charge["amount"]
    part = int(due - fee["amount_refunded"])
    if part:
        fields = {"amount": part, "currency": fee["currency"], "fee": fee["id"], "metadata": {}}
        refund = platform.create("fr", "fee_refund", fields)
        transaction = balance.record(platform, "application_fee_refund", refund, -part)
        platform.save(refund, balance_transaction=transaction["id"])
        platform.save(fee, amount_refunded=due, refunded=due == fee["amount"])
        platform.emit("application_fee.refunded", fee)
    return part


def retrieve(call: Call, _: Parameters, identifier: str) -> Resource:
    """Return a fee."""
    return call.get("application_fee", identifier)


def list_all(call: Call, body: ApplicationFeeList, _: str) -> Resource:
    """List fees."""
    url = "/v1/application_fees"
    return call.page("application_fee", url, body.query(), charge=body.charge)
