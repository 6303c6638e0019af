"""Routes of transfers of sessions to another client."""

from fastapi import Response

from services.vouchers.errors import (
    ClientInactive,
    ClientNotFound,
    NothingReceived,
    RefundUnderWay,
    SessionsBooked,
    SessionsReceived,
    VoucherCancelled,
    VoucherDisputed,
    VoucherExhausted,
    VoucherExpired,
    VoucherFrozen,
    VoucherNotFound,
    VoucherUnpaid,
)
from services.vouchers.schemas.transfers import ReturnCreate, TransferCreate, TransferRead
from services.vouchers.service import transfers as service
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, ServiceUnavailable, Unauthenticated, responses
from shared.fields import Id
from shared.json_responses import json_response
from shared.routing import router
from shared.sessions import ClientsDep, ReaderDep, SessionDep, WorkDep

transfers = router(
    prefix="/api/vouchers/{voucher_id}",
    tags=["transfers"],
    responses=responses(Unauthenticated, VoucherNotFound, Invalid),
)

_TRANSFER = responses(
    Forbidden,
    ClientNotFound,
    ClientInactive,
    VoucherUnpaid,
    VoucherCancelled,
    VoucherExpired,
    VoucherExhausted,
    SessionsReceived,
    VoucherDisputed,
    VoucherFrozen,
    RefundUnderWay,
    SessionsBooked,
    ServiceUnavailable,
)


@transfers.post("/transfers", status_code=201, responses=_TRANSFER)
async def transfer_sessions(
    voucher_id: Id, body: TransferCreate, work: WorkDep, actor: ActorDep, clients: ClientsDep
) -> TransferRead:
    """Transfer sessions to another client of the organization, who gets a voucher of their own.

    Booked sessions and the payment stay with the giver.
    """
    entry = await service.transfer(work, actor, clients, voucher_id, body)
    return TransferRead.model_validate(entry)


@transfers.get("/transfers", response_model=list[TransferRead])
async def list_transfers(
    voucher_id: Id, reader: ReaderDep, actor: ActorDep, response: Response
) -> Response:
    """List the sessions that a voucher gave to others or received, newest first."""
    body = await service.list_transfers(reader, actor, voucher_id)
    return json_response(response, body)


@transfers.post(
    "/returns",
    status_code=201,
    responses=responses(Forbidden, NothingReceived, VoucherExhausted, SessionsBooked),
)
async def return_sessions(
    voucher_id: Id, body: ReturnCreate, session: SessionDep, actor: ActorDep
) -> TransferRead:
    """Return received sessions to the voucher that they are from, for instance to refund them."""
    entry = await service.return_sessions(session, actor, voucher_id, body)
    return TransferRead.model_validate(entry)
