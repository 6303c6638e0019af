"""The booking policy: its defaults, its bounds, and what of it is stored."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.vouchers.schemas.booking_policy import (
    BookingPolicy,
    effective_policy,
    fault_of_policy,
)


def test_a_policy_has_defaults() -> None:
    assert BookingPolicy().model_dump(mode="json") == {
        "opens_days": 60,
        "closes_minutes": 60,
        "notice_minutes": 1440,
        "late_cancel": "backup_first",
        "no_show": "backup_first",
        "max_open": None,
        "slot_minutes": 30,
        "approval": False,
        "hold_minutes": 10,
        "waitlist": "auto",
        "reminders_minutes": [1440, 120],
        "settle_hours": 48,
        "unmarked": "attended",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"opens_days": 0},
        {"opens_days": "60"},
        {"closes_minutes": -1},
        {"notice_minutes": 1.5},
        {"late_cancel": "backup"},
        {"no_show": None},
        {"max_open": 0},
        {"slot_minutes": 4},
        {"slot_minutes": 241},
        {"slot_minutes": True},
        {"approval": 1},
        {"hold_minutes": 0},
        {"waitlist": "on"},
        {"reminders_minutes": [4]},
        {"reminders_minutes": [60, 60]},
        {"reminders_minutes": [10, 20, 30, 40, 50, 60]},
        {"settle_hours": 0},
        {"unmarked": "missed"},
        {"colour": "red"},
    ],
    ids=str,
)
def test_a_value_out_of_bounds_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BookingPolicy.model_validate(fields)


def test_what_was_sent_is_stored_and_no_default() -> None:
    policy = BookingPolicy.model_validate(
        {"waitlist": "offer", "max_open": None, "reminders_minutes": [60, 1440]}
    )
    assert policy.stored() == {
        "waitlist": "offer",
        "max_open": None,
        "reminders_minutes": [1440, 60],
    }
    assert BookingPolicy().stored() == {}


def test_a_voucher_has_priority_over_its_organization() -> None:
    organization = {"opens_days": 30, "waitlist": "off", "max_open": 2}
    policy = effective_policy(organization, {"opens_days": 90, "max_open": None})
    assert (policy.opens_days, policy.waitlist, policy.max_open) == (90, "off", None)
    assert policy.slot_minutes == 30
    assert effective_policy() == BookingPolicy()


@pytest.mark.parametrize(("closes_minutes", "is_wrong"), [(1439, False), (1440, True)])
def test_a_policy_that_never_opens_is_a_fault(closes_minutes: int, is_wrong: bool) -> None:
    policy = BookingPolicy(opens_days=1, closes_minutes=closes_minutes)
    assert (fault_of_policy(policy) is not None) == is_wrong
