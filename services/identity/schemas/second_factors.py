"""Second factors and the second step of a sign-in."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from services.identity.schemas.common import PresentPassword
from services.identity.schemas.sign_in import TokensRead
from shared.fields import RequestBody

ChallengeToken = Annotated[
    str,
    Field(min_length=1, max_length=256, description="The `mfa_token` of the refused sign-in"),
]
AppCode = Annotated[
    str, Field(min_length=6, max_length=16, description="The six digits that the app shows")
]
FactorCode = Annotated[
    str,
    Field(
        min_length=6,
        max_length=64,
        description="The six digits that the app shows, or a recovery code",
    ),
]
RecoveryCodes = Annotated[
    list[str] | None,
    Field(
        description="Each replaces a code of the app once; shown only here. Null for a repetition"
        " with the same Idempotency-Key"
    ),
]


class Challenge(RequestBody):
    """The token of a sign-in that waits for a second factor."""

    mfa_token: ChallengeToken


class ChallengeAnswer(Challenge):
    """The token of a sign-in that waits for a second factor, and a code."""

    code: FactorCode


class AppConfirmation(RequestBody):
    """A code of the app that is being set up."""

    code: AppCode


class Reauthentication(RequestBody):
    """Your password, or a code of your second factor."""

    password: PresentPassword | None = None
    code: FactorCode | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.password is None) == (self.code is None):
            raise ValueError("give password or code")
        return self


class FactorSetupRead(BaseModel):
    """What an authenticator app needs. It is shown once."""

    secret: str | None = Field(
        description="In base32; null for a repetition with the same Idempotency-Key"
    )
    otpauth_uri: str | None = Field(description="The same as an address, for a QR code")


class RecoveryCodesRead(BaseModel):
    """New recovery codes. Earlier ones are void."""

    recovery_codes: RecoveryCodes


class FactorRead(BaseModel):
    """Whether you have a second factor."""

    is_active: bool
    active_since: datetime | None
    recovery_codes_left: int
    is_required: bool = Field(description="Whether you cannot sign in without one")


class SecondStepRead(TokensRead):
    """The tokens of a sign-in with a second factor."""

    recovery_codes: list[str] | None = Field(
        description="Only if the second factor was set up by this sign-in; shown only here"
    )


class ReauthenticationRead(BaseModel):
    """An access token whose `auth_time` is now. The refresh token stays the same."""

    access_token: str | None = Field(
        description="Null for a repetition with the same Idempotency-Key; refresh then"
    )
    token_type: Literal["bearer"]
    expires_in: int
