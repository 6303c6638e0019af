"""The parameters of requests, read strictly: what is not declared is answered with 501."""

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from deploy.local.card_gateway.errors import StripeError, invalid, not_implemented
from deploy.local.card_gateway.store import PageQuery
from shared.currencies import CURRENCIES

Given = TypeVar("Given", bound=BaseModel)

METADATA_KEYS = 50
_TYPE = re.compile(r"[A-Z]|(int|str|dict|literal)\b")


class Fields(BaseModel):
    """Some parameters."""

    model_config = ConfigDict(extra="forbid")


class Parameters(Fields):
    """The parameters of a request."""

    expand: list[str] = []


def _require_currency(value: str) -> str:
    if value.upper() not in CURRENCIES:
        raise PydanticCustomError(
            "currency", "{value} is no currency of ISO 4217", {"value": value}
        )
    return value.lower()


Currency = Annotated[str, AfterValidator(_require_currency)]
Metadata = Annotated[dict[str, Annotated[str, Field(max_length=500)]], Field(max_length=50)]
MetadataChange = Metadata | Literal[""]
"""Metadata in an update: an empty value removes a key, an empty text removes all."""


class Created(Fields):
    """Bounds of a time of creation."""

    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None


class ListParameters(Parameters):
    """The parameters of a list."""

    limit: int = Field(default=10, ge=1, le=100)
    starting_after: str | None = None
    ending_before: str | None = None
    created: Created | int | None = None

    def query(self, types: tuple[str, ...] = ()) -> PageQuery:
        """Return what the store needs."""
        bounds = self.created
        if isinstance(bounds, int):
            bounds = Created(gte=bounds, lte=bounds)
        limits = bounds.model_dump(exclude_none=True) if bounds else None
        return PageQuery(self.limit, self.starting_after, self.ending_before, limits, types)


def read_parameters(model: type[Given], fields: dict[str, Any], operation: str) -> Given:
    """Return the parameters of a request; raises StripeError for the first wrong one."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _refusal(error.errors()[0], operation) from error


def _refusal(problem: ErrorDetails, operation: str) -> StripeError:
    # In a union pydantic adds the name of the type that it tried.
    names = [str(part) for part in problem["loc"] if not _TYPE.match(str(part))]
    param = "".join([names[0], *(f"[{name}]" for name in names[1:])]) if names else None
    kind, value = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return not_implemented(f"the parameter {param} of {operation}")
    if kind == "missing":
        return invalid(f"Missing required param: {param}.", param, "parameter_missing")
    if kind.startswith("int_"):
        return invalid(f"Invalid integer: {value}", param, "parameter_invalid_integer")
    if kind.startswith("bool_"):
        return invalid(f"Invalid boolean: {value}", param)
    if kind.startswith(("greater_", "less_")):
        return invalid(f"{problem['msg']}.", param, "parameter_invalid_integer")
    return invalid(f"Invalid {param}: {problem['msg']}", param)


def changed_metadata(before: dict[str, str], change: MetadataChange | None) -> dict[str, str]:
    """Return metadata after an update; raises StripeError if there would be too many keys."""
    if change is None:
        return before
    union = {} if change == "" else {**before, **change}
    metadata = {name: value for name, value in union.items() if value != ""}
    if len(metadata) > METADATA_KEYS:
        raise invalid(f"Metadata can have at most {METADATA_KEYS} keys.", "metadata")
    return metadata
