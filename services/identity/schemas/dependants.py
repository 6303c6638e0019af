"""Dependants, who have no e-mail address."""

from datetime import date, datetime

from pydantic import BaseModel, ConfigDict

from services.identity.schemas.common import PartialUpdate
from shared.fields import Day, Name, RequestBody


class DependantCreate(RequestBody):
    """A client who has no e-mail address, such as a child."""

    name: Name
    date_of_birth: Day | None = None


class DependantUpdate(PartialUpdate):
    """The fields of a dependant that can be changed."""

    name: Name = ""
    date_of_birth: Day | None = None


class DependantRead(BaseModel):
    """A dependant, whose guardian acts in their place. The id is that of a client."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    guardian_id: int
    organization_id: int | None
    name: str
    date_of_birth: date | None
    created_at: datetime
    updated_at: datetime
