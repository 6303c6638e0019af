"""Every table that is copied, in the order in which rows need each other."""

from deploy.upgrade.class_rows import RESERVATIONS, SESSIONS, THERAPY_CLASSES
from deploy.upgrade.copy_step import CopyStep
from deploy.upgrade.identity_rows import CLIENT_COPIES, USERS
from deploy.upgrade.voucher_rows import REDEMPTIONS, VOUCHER_CODES, VOUCHERS

__all__ = ["COPIES", "CopyStep"]

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
