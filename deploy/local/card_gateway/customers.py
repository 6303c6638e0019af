"""Customers: https://docs.stripe.com/api/customers."""

from typing import Any

from deploy.local.card_gateway.call import Call
from deploy.local.card_gateway.parameters import (
    Fields,
    ListParameters,
    MetadataChange,
    Parameters,
    changed_metadata,
)
from deploy.local.card_gateway.payment_methods import attach_to, find_usable
from deploy.local.card_gateway.store import Resource


class InvoiceSettings(Fields):
    """The customer's default payment method."""

    default_payment_method: str | None = None


class CustomerFields(Parameters):
    """POST /v1/customers and /v1/customers/{id}."""

    address: dict[str, str] | None = None
    description: str | None = None
    email: str | None = None
    invoice_settings: InvoiceSettings | None = None
    metadata: MetadataChange | None = None
    name: str | None = None
    payment_method: str | None = None
    phone: str | None = None
    preferred_locales: list[str] | None = None


class CustomerList(ListParameters):
    """GET /v1/customers."""


def create(call: Call, body: CustomerFields, _: str) -> Resource:
    """Create a customer."""
    empty = dict.fromkeys(("address", "description", "email", "name", "phone", "shipping"))
    fields: dict[str, Any] = {
        **empty,
        "balance": 0,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "invoice_settings": {"default_payment_method": None},
        "metadata": {},
        "preferred_locales": [],
    }
    customer = call.create("cus", "customer", fields)
    call.save(customer, **_changes(call, customer, body))
    call.emit("customer.created", customer)
    return customer


def _changes(call: Call, customer: Resource, body: CustomerFields) -> dict[str, Any]:
    """Return the changed fields; raises StripeError if a payment method cannot be used."""
    if body.payment_method:
        method = find_usable(call, body.payment_method)
        attach_to(call, method, customer["id"])
    simple = {"address", "description", "email", "name", "phone", "preferred_locales"}
    changes = body.model_dump(include=simple, exclude_none=True)
    changes["metadata"] = changed_metadata(customer["metadata"], body.metadata)
    if body.invoice_settings:
        default = body.invoice_settings.default_payment_method
        if default:
            call.get("payment_method", default, "invoice_settings[default_payment_method]")
        changes["invoice_settings"] = {"default_payment_method": default or None}
    return changes


def retrieve(call: Call, _: Parameters, identifier: str) -> Resource:
    """Return a customer."""
    return call.get("customer", identifier)


def update(call: Call, body: CustomerFields, identifier: str) -> Resource:
    """Change a customer."""
    customer = call.get("customer", identifier)
    changes = _changes(call, customer, body)
    before = {name: customer[name] for name in changes if customer[name] != changes[name]}
    call.save(customer, **changes)
    call.emit("customer.updated", customer, before)
    return customer


def delete(call: Call, _: Parameters, identifier: str) -> Resource:
    """Delete a customer; the payment methods are detached."""
    customer = call.get("customer", identifier)
    for method in call.store.rows_of(call.book, "payment_method", customer=identifier):
        call.save(method, customer=None, _is_used=True)
        call.emit("payment_method.detached", method, {"customer": identifier})
    call.emit("customer.deleted", customer)
    call.store.delete(identifier)
    return {"id": identifier, "object": "customer", "deleted": True}


def list_all(call: Call, body: CustomerList, _: str) -> Resource:
    """List customers."""
    return call.page("customer", "/v1/customers", body.query())
