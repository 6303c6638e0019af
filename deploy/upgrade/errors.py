"""What an operator is told when the upgrade cannot go on."""

from deploy.local.errors import StartError


class UpgradeError(StartError):
    """The upgrade stops here: what is wrong, and what to do about it."""
