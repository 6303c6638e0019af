"""Every table that is copied, in the order of their references."""

from deploy.upgrade.rows.classes import RESERVATIONS, SESSIONS, THERAPY_CLASSES
from deploy.upgrade.rows.copy_step import CopyStep
from deploy.upgrade.rows.users import CLIENT_COPIES, USERS
from deploy.upgrade.rows.vouchers import REDEMPTIONS, VOUCHER_CODES, VOUCHERS

COPIES: tuple[CopyStep, ...] = (
    USERS,
    CLIENT_COPIES,
    THERAPY_CLASSES,
    VOUCHERS,
    VOUCHER_CODES,
    REDEMPTIONS,
    SESSIONS,
    RESERVATIONS,
)
