"""What each rule of a finding means, in the words of the report."""

from collections.abc import Mapping

from deploy.upgrade.rows.copy_step import FIRST_DAY, LAST_DAY

BOOKING_MEANINGS: Mapping[str, str] = {
    "session_added": "session that only reservations named: added",
    "session_without_class": "session without a class: 60 minutes for one client",
    "overbooked": "more clients than the class takes: the session has as many places as clients",
    "therapist_double_booked": "another session of the therapist at the same time: both stay",
    "client_double_booked": "another reservation of the client at the same time: both stay",
    "reservation_without_client": "reservation without a client: cancelled",
    "session_cancelled": "reservation of a cancelled session: cancelled",
    "unfunded": "no voucher of the client pays for the session: booked without a voucher",
    "code_used_already": "code used before the session: booked without a voucher, paid already",
    "code_used_twice": "code of another reservation too: the redemption belongs to the other one",
    "code_of_another_client": "code of no voucher or of another client's: its voucher does not pay",
}
"""The rules of the conversion in version 2's database. Preflight cannot find their rows."""

MEANINGS: Mapping[str, str] = {
    "email_set_aside": (
        "address equal to an older user's except for case or Unicode form: changed, deactivated"
    ),
    "admin_made_owner": "administrator who becomes an owner of the organization",
    "email_without_its_form": "malformed address: cannot sign in until it is changed",
    "email_trimmed": "address with blanks around it: copied without them",
    "email_missing": "user without an address: gets one that receives no mail, deactivated",
    "name_unknown": "name was null: named after the id",
    "name_not_as_entered_today": "name over 255 characters or with control characters: unchanged",
    "password_unknown": "password was null: cannot sign in until one is set",
    "role_unknown": "role that version 2 does not have: client",
    "duration_unknown": "duration was null: 60 minutes",
    "capacity_unknown": "capacity was null: 1",
    "capacity_below_one": "capacity below 1: 1",
    "duration_outside_a_day": "duration of no minute or over a day: 60 minutes, or a day",
    "status_unknown": "status that version 1 did not have: scheduled, or pending for a reservation",
    "purchase_date_unknown": "day of purchase was null: the day of creation or of the upgrade",
    "last_day_unknown": "last day was null: cancelled",
    "total_sessions_unknown": "number of sessions sold was null: 0",
    "more_used_than_sold": "more sessions used than sold: used up",
    "code_differs_in_case": "code equal to another except for case: unchanged, to be typed exactly",
    "code_unknown": "code was null: made from the id",
    "day_outside_the_calendar": f"day before {FIRST_DAY} or after {LAST_DAY}: moved to that day",
    "use_outside_the_calendar": f"use before {FIRST_DAY} or after {LAST_DAY}: moved to that day",
    "date_outside_the_calendar": f"date before {FIRST_DAY} or after {LAST_DAY}: moved to that day",
    "date_unknown": "date was null: the time of creation, or of the upgrade",
    "time_outside_the_calendar": (
        f"creation or change before {FIRST_DAY} or after {LAST_DAY}: moved to that day"
    ),
    "id_not_positive": "id below 1: unchanged; appears in lists but cannot be opened by its id",
    "is_active_unknown": "is_active was null: active",
    "created_at_unknown": "time of creation was null: that of the last change or of the upgrade",
    "without_client": "voucher without a client: cancelled",
    "without_class": "voucher without a class: gets a general name and no type",
    "used_sessions_unknown": "number of used sessions was null: 0",
    "sessions_below_zero": "negative number of sessions: 0",
    "more_codes_used_than_sessions": "more codes used than sessions counted: the count applies",
    "without_voucher": "code without a voucher: unchanged, redeems nothing",
    "is_spare_unknown": "is_spare was null: regular",
    "is_used_unknown": "is_used was null: unused",
    "used_date_of_an_unused_code": "unused code with a day of use: the day is removed",
    "used_on_an_unknown_day": "used code without a day of use: dated on the day of purchase",
    **BOOKING_MEANINGS,
}
