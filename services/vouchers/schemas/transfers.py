"""Requests and responses of transfers."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from shared.fields import BodyId, Name, RequestBody

TransferredSessions = Annotated[int, Field(ge=1, le=10_000)]


class TransferCreate(RequestBody):
    """The client of the organization who receives sessions, how many, and why.

    Without a number these are all sessions that are neither used nor booked.
    """

    client_id: BodyId
    sessions: TransferredSessions | None = None
    reason: Name


class ReturnCreate(RequestBody):
    """How many received sessions are returned, all that are neither used nor booked by default."""

    sessions: TransferredSessions | None = None
    reason: Name


class TransferRead(BaseModel):
    """A voucher's side of a transfer: negative `sessions` were given to the other voucher,
    positive ones were received from it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    voucher_id: int
    other_voucher_id: int
    sessions: int
    reason: str
    made_by: int
    created_at: datetime
