"""Sessions and reservations of version 1 in every awkward shape, beside the rows of the sample.

Day 10 from today is a day in the future, for every test alike.
"""

DAY = "(date_trunc('day', now()) + interval '10 days')::timestamp"

ROWS = f"""
    INSERT INTO users (id, email, name, password_hash, role) VALUES
        (20, 'c20@x.org', 'c20', 'h', 'client'), (21, 'c21@x.org', 'c21', 'h', 'client');
    INSERT INTO therapy_classes (id, name, duration_minutes, capacity, therapist_id) VALUES
        (4, 'for nobody', 0, 0, 4), (5, 'for days', 5000, 1, NULL);
    INSERT INTO vouchers (id, client_id, therapy_class_id, purchase_date, valid_until,
        total_sessions, used_sessions) VALUES
        (10, 20, 2, '2024-01-01', current_date + 30, 1, 0),
        (11, 20, 2, '2024-01-01', current_date + 20, 1, 0),
        (12, 21, 2, '2024-01-01', current_date + 30, 5, 1);
    INSERT INTO voucher_codes (id, voucher_id, code, is_used, used_date) VALUES
        (100, 12, 'C-100', true, '2024-03-01 10:00'), (101, 12, 'C-101', false, NULL);
    INSERT INTO sessions (id, therapy_class_id, session_date, status) VALUES
        (20, 2, {DAY} + interval '10 hours', 'scheduled'),
        (21, 2, {DAY} + interval '10 hours 30 minutes', 'scheduled'),
        (22, 3, {DAY} + interval '9 hours', 'cancelled'),
        (23, NULL, {DAY}, NULL),
        (24, 5, {DAY}, 'scheduled');
    INSERT INTO reservations (id, client_id, therapy_class_id, session_date, voucher_code_id,
        status) VALUES
        (20, 20, 2, {DAY} + interval '10 hours', NULL, 'confirmed'),
        (21, 21, 2, {DAY} + interval '10 hours', NULL, 'confirmed'),
        (22, 20, 2, {DAY} + interval '10 hours 30 minutes', NULL, 'confirmed'),
        (23, 20, 2, {DAY} + interval '34 hours', NULL, 'pending'),
        (24, 21, 3, {DAY} + interval '9 hours', NULL, 'confirmed'),
        (25, NULL, 2, {DAY} + interval '10 hours', NULL, 'confirmed'),
        (26, 21, 2, '2024-03-01 10:00', 100, 'completed'),
        (27, 21, 2, '2024-03-08 10:00', 100, 'completed'),
        (28, 21, 2, '2024-03-15 10:00', NULL, 'pending'),
        (29, 21, 4, {DAY} + interval '2 days', 100, 'confirmed'),
        (30, 20, 2, '2024-03-22 10:00', 101, 'completed'),
        (31, 20, NULL, {DAY} + interval '3 days', NULL, 'confirmed'),
        (32, 20, NULL, {DAY} + interval '3 days', NULL, 'pending'),
        (33, 21, 2, '2024-03-29 10:00', NULL, 'confirmed'),
        (34, 21, 2, {DAY} + interval '4 days', 101, 'confirmed'),
        (35, 21, 2, '2024-04-05 10:00', NULL, NULL);
    SELECT setval('users_id_seq', 21), setval('therapy_classes_id_seq', 5),
        setval('vouchers_id_seq', 12), setval('voucher_codes_id_seq', 101),
        setval('sessions_id_seq', 24), setval('reservations_id_seq', 35)
"""

STATES = {
    20: "booked",
    21: "booked",
    22: "booked",
    23: "held",
    24: "cancelled",
    25: "cancelled",
    26: "attended",
    27: "attended",
    28: "cancelled",
    29: "booked",
    30: "attended",
    31: "booked",
    32: "held",
    33: "attended",
    34: "booked",
    35: "cancelled",
}
VOUCHERS = {20: 11, 21: 12, 22: 10, 26: 12, 27: 12, 34: 12}
"""The reservations that have a voucher, as the sample's first two have voucher 1."""

FOUND = {
    "therapy_classes.capacity_below_one": [4],
    "therapy_classes.duration_outside_a_day": [4, 5],
    "sessions.overbooked": [20],
    "sessions.therapist_double_booked": [20, 21],
    "reservations.client_double_booked": [20, 22, 31, 32],
    "reservations.reservation_without_client": [25],
    "reservations.session_cancelled": [24],
    "reservations.unfunded": [23, 31, 32],
    "reservations.code_used_already": [29],
    "reservations.code_used_twice": [27, 29],
    "reservations.code_of_another_client": [30],
}
"""Findings whose ids are those of version 1; sessions that were added have others."""

ADDED = 11
"""The sessions that only reservations name: those of 23 and of 26 to 35."""
