"""Messages that wait to be sent, and those that were."""

from services.vouchers.models.base import Base
from shared.mail.table import OutgoingMailColumns


class OutgoingMail(OutgoingMailColumns, Base):
    """A message of this service; see `shared.mail`."""
