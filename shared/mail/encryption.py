"""The contents of messages that wait are encrypted: some links are as good as passwords.

See docs/decisions/0044-mail-leaves-through-a-queue.md.
"""

from pydantic import SecretStr

from shared.encryption import BoundEncryption, UnreadableContent

__all__ = ["MailEncryption", "UnreadableContent"]

_PURPOSE = b"carnet mail"


class MailEncryption(BoundEncryption):
    """Encrypts the contents of messages, each bound to the key of its message."""

    def __init__(self, secret: SecretStr) -> None:
        super().__init__(secret, _PURPOSE)
