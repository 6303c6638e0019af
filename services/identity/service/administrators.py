"""The first administrator of an installation."""

from dataclasses import dataclass

from services.identity import queries
from services.identity.models import User
from services.identity.security.passwords import Passwords
from shared.actors import ADMIN
from shared.changes import record
from shared.transactions import Transactions


@dataclass(frozen=True, slots=True)
class FirstAdministrator:
    """The first administrator, and whether the password of the settings is that user's."""

    email: str
    made: bool
    """Whether the user was created now. Another program reads this name in a file."""
    password_matches: bool


class AddressTaken(Exception):
    """The address of the first administrator belongs to a user who is no active administrator."""


async def has_first(transactions: Transactions) -> bool:
    """Return whether there is an active administrator."""
    async with transactions.system() as session:
        return await queries.find_first_administrator(session) is not None


async def create_first(
    transactions: Transactions, *, email: str, name: str, password: str
) -> FirstAdministrator:
    """Create the administrator unless there is an active one; raises AddressTaken.

    An existing administrator is not changed, whatever the arguments are: a restart must neither
    undo a later change nor create a second administrator.
    """
    passwords = Passwords(places=1)
    new_hash = await passwords.hash(password)
    async with transactions.system() as session:
        first = await queries.find_first_administrator(session)
        if first is None:
            if await queries.find_user_by_email(session, email) is not None:
                raise AddressTaken
            user = User(email=email, name=name, password_hash=new_hash)
            user.set_role(ADMIN)
            user.approve(None)
            session.add(user)
            record(session, "CREATE", user)
            return FirstAdministrator(email, made=True, password_matches=True)
        first_email, password_hash = first.email, first.password_hash
    verdict = await passwords.verify(password, password_hash)
    return FirstAdministrator(first_email, made=False, password_matches=verdict.matches)
