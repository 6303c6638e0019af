"""Identity's reading of permissions is that of the services which enforce them.

Services never import each other, so nothing but this test sees a difference.
"""

import itertools

from services.identity import policies as identity
from services.identity.models import PERMISSIONS, ROLES
from services.payments import policies as payments
from services.vouchers import policies as vouchers
from shared.actors import Actor

ORGANIZATION = 7


def _actors() -> list[Actor]:
    return [
        Actor(user_id=1, role=role, organization_id=ORGANIZATION, permissions=frozenset(held))
        for role in ROLES
        for held in itertools.chain([()], itertools.combinations(PERMISSIONS, 1))
    ]


def test_what_a_permission_includes_is_what_the_services_allow() -> None:
    for actor in _actors():
        rights = identity.rights_of(actor, ORGANIZATION)
        assert vouchers.can_redeem(actor, ORGANIZATION) == (identity.REDEEM in rights), actor
        sees_payments = payments.can_view_payments(actor, ORGANIZATION)
        assert sees_payments == (payments.VIEW_PAYMENTS in rights), actor
        for permission in PERMISSIONS:
            if permission not in ("all", payments.VIEW_PAYMENTS):
                assert actor.may(permission, ORGANIZATION) == (permission in rights), actor
