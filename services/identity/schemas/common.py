"""The parts that several bodies share."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.identity.security.password_rule import MAX_LENGTH, MIN_LENGTH, new_password
from shared.fields import Locale, RequestBody, without_defaults

NewPassword = Annotated[
    str,
    # The form of RFC 8265 may be shorter.
    Field(max_length=1024),
    AfterValidator(new_password),
    Field(json_schema_extra={"minLength": MIN_LENGTH, "maxLength": MAX_LENGTH}),
]
"""A new password. Its length is checked here, its strength by `Passwords.hash_new`."""
PresentPassword = Annotated[str, Field(min_length=1, max_length=1024)]
"""A password to verify. Version 1 had other rules, so only its length has a bound."""
UserLocale = Annotated[
    Locale,
    Field(description="The language of messages; without one it is the organization's"),
]


class PartialUpdate(RequestBody):
    """Fields that are sent are changed; null empties an optional field."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    def changes(self) -> dict[str, Any]:
        """Return the fields that were sent."""
        return self.model_dump(exclude_unset=True)


class Message(BaseModel):
    """A sentence that states what was done."""

    message: str
