"""Tables, and the rules that guard one row."""

from services.identity.models.attempts import AttemptCount
from services.identity.models.base import Base
from services.identity.models.dependants import Dependant
from services.identity.models.links import AccountLink, LinkEnd, LinkPurpose
from services.identity.models.mails import OutgoingMail
from services.identity.models.organizations import OrganizationCopy
from services.identity.models.permissions import PERMISSIONS, Permission
from services.identity.models.sessions import EndReason, RefreshToken, SignInSession
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
    "CLIENT",
    "GRANTABLE_ROLES",
    "NO_PASSWORD",
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
    "RefreshToken",
    "SignInSession",
    "SigningKey",
    "User",
]
