"""Tables, and the rules that guard one row."""

from services.identity.models.attempts import AttemptCount
from services.identity.models.base import Base
from services.identity.models.dependants import Dependant
from services.identity.models.links import AccountLink, LinkEnd, LinkPurpose
from services.identity.models.mails import OutgoingMail
from services.identity.models.organizations import OrganizationCopy
from services.identity.models.permissions import PERMISSIONS, Permission
from services.identity.models.second_factors import (
    CHALLENGE_LIFETIME,
    RecoveryCode,
    SecondFactor,
    SignInChallenge,
)
from services.identity.models.sessions import (
    PASSWORD_AND_CODE,
    EndReason,
    RefreshToken,
    SignInSession,
)
from services.identity.models.signing_keys import SigningKey
from services.identity.models.users import (
    CLIENT,
    GRANTABLE_ROLES,
    NO_PASSWORD,
    ROLES,
    STAFF,
    THERAPIST,
    User,
)

__all__ = [
    "CHALLENGE_LIFETIME",
    "CLIENT",
    "GRANTABLE_ROLES",
    "NO_PASSWORD",
    "PASSWORD_AND_CODE",
    "PERMISSIONS",
    "ROLES",
    "STAFF",
    "THERAPIST",
    "AccountLink",
    "AttemptCount",
    "Base",
    "Dependant",
    "EndReason",
    "LinkEnd",
    "LinkPurpose",
    "OrganizationCopy",
    "OutgoingMail",
    "Permission",
    "RecoveryCode",
    "RefreshToken",
    "SecondFactor",
    "SignInChallenge",
    "SignInSession",
    "SigningKey",
    "User",
]
