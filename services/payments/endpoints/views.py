"""Rows in the form in which the API returns them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from fastapi import Response
from pydantic import BaseModel
from pydantic_core import from_json

from services.payments.gateways import MESSAGES_FOR_STAFF, smallest_unit
from services.payments.models import Status
from services.payments.queries import PaymentBalance
from services.payments.schemas import (
    ChargeRead,
    DayTotal,
    FailureRead,
    NextAction,
    PaymentRead,
    PaymentState,
)
from services.payments.schemas.accounts import (
    PaymentAccountRead,
)
from services.payments.service.account_connections import ConnectedAccount
from services.payments.service.payments import NumberedRow, PaymentView
from shared import csv_files
from shared.money import CENT


def charge_read(charge: NumberedRow) -> ChargeRead:
    """Return the state of a charge."""
    payment = charge.payment
    return ChargeRead(
        transaction_id=payment["id"],
        status=payment["status"],
        next_action=_next_action(
            payment["status"], payment["void_requested_at"], payment["next_action"]
        ),
        failure=_failure(payment["failure_code"], payment["failure_message"]),
        invoice_number=charge.invoice_number,
        completed_at=payment["completed_at"],
    )


def payment_read(view: PaymentView) -> PaymentRead:
    """Return a payment as its payer or staff may see it.

    Only the payer sees the secret by which it can be confirmed; only staff see their note, the
    reason of a quarantine and the operator's fee.
    """
    payment = view.payment
    next_action = _next_action(payment.status, payment.void_requested_at, payment.next_action)
    return PaymentRead(
        id=payment.id,
        voucher_id=payment.voucher_id,
        organization_id=payment.organization_id,
        client_id=payment.client_id,
        amount=payment.amount,
        currency=payment.currency,
        payment_method=payment.payment_method,
        payment_gateway=payment.payment_gateway,
        gateway_transaction_id=payment.gateway_transaction_id,
        status=payment.status,
        captured_amount=payment.captured_amount,
        refunded_amount=payment.refunded_amount,
        disputed_amount=payment.disputed_amount,
        platform_fee=payment.platform_fee if view.is_staff else None,
        description=payment.description,
        failure=_failure(
            payment.failure_code,
            MESSAGES_FOR_STAFF.get(payment.failure_code or "", payment.failure_message)
            if view.is_staff
            else payment.failure_message,
        ),
        quarantine_reason=payment.quarantine_reason if view.is_staff else None,
        note=payment.note if view.is_staff else None,
        next_action=next_action if view.is_payer else None,
        invoice_number=view.invoice_number,
        created_at=payment.created_at,
        completed_at=payment.completed_at,
    )


def _failure(code: str | None, message: str | None) -> FailureRead | None:
    return None if code is None else FailureRead(code=code, message=message or "")


def _next_action(
    status: str, void_requested_at: datetime | None, action: Mapping[str, Any] | None
) -> NextAction | None:
    """Return what the payer must do; None once the voucher was cancelled."""
    waits = status == Status.REQUIRES_ACTION and void_requested_at is None
    return NextAction.model_validate(action) if waits and action is not None else None


def account_read(view: ConnectedAccount) -> PaymentAccountRead:
    """Return an account at a gateway as staff see it."""
    account = view.account
    fields = PaymentAccountRead.model_fields.keys() - {"problem"}
    values = {name: getattr(account, name) for name in fields}
    return PaymentAccountRead(**values, problem=view.problem)


def payment_state(balance: PaymentBalance) -> PaymentState:
    """Return how much of a payment can be given back."""
    payment = balance.payment
    return PaymentState(
        transaction_id=payment.id,
        currency=payment.currency,
        captured_amount=payment.captured_amount,
        refunded_amount=payment.refunded_amount,
        refundable_amount=balance.refundable,
        pending_amount=balance.pending,
        unit=smallest_unit(payment.currency),
    )


def totals_csv(rows: Iterable[DayTotal], *, with_bom: bool) -> bytes:
    """Return totals as comma-separated values with a line of column names."""
    return _table(DayTotal, rows, with_bom=with_bom)


def csv_of(
    model: type[BaseModel],
    body: bytes,
    *,
    with_bom: bool,
    headers: Mapping[str, str],
    within: str | None = None,
) -> Response:
    """Return the JSON list of a response as comma-separated values.

    `within` names the field of a JSON object that has the list.
    """
    items = from_json(body)
    rows = [model.model_validate(item) for item in (items[within] if within else items)]
    content = _table(model, rows, with_bom=with_bom)
    return Response(content, media_type=csv_files.MEDIA_TYPE, headers=dict(headers))


def _table(model: type[BaseModel], rows: Iterable[BaseModel], *, with_bom: bool) -> bytes:
    columns = tuple(model.model_fields)
    cells = ([_cell(getattr(row, name)) for name in columns] for row in rows)
    return csv_files.head(columns, with_bom=with_bom) + csv_files.lines(cells)


def _cell(value: object) -> object:
    if isinstance(value, Decimal):
        return value.quantize(CENT)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value).lower() if isinstance(value, bool) else value
