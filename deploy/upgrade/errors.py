"""The error that stops the upgrade."""

from deploy.local.errors import StartError


class UpgradeError(StartError):
    """The upgrade stops. The error states the problem and what the operator can do about it."""
