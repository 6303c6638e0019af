"""Requests and responses of calendar feeds."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from services.vouchers.models import FeedDetail, FeedScope
from shared.fields import BodyId, Choice, RequestBody


class FeedCreate(RequestBody):
    """A feed of the user's own sessions.

    `organization_id` is the user's own organization unless it is sent; users without an
    organization must send it. `scope` is `therapist` for therapists and `client` for others unless
    it is sent. `detail` is `times`, or `names`: with the names of people, rooms and classes.
    """

    organization_id: BodyId | None = None
    scope: Choice[FeedScope] | None = None
    detail: Choice[FeedDetail] = FeedDetail.TIMES


class FeedRead(BaseModel):
    """A calendar feed without its address. `last_read_at` is exact to an hour."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    organization_id: int
    scope: FeedScope
    detail: FeedDetail
    created_at: datetime
    last_read_at: datetime | None


class FeedCreated(FeedRead):
    """A new feed with its address, which is not shown again: only its digest is stored.

    The address begins with the public address of the installation if that is configured, else with
    the path. It is null in the response to a repetition with the same Idempotency-Key.
    """

    address: str | None
