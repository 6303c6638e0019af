"""docs/settings.md names what there is, with the default that it has."""

import re
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from deploy.local.system import CHECKOUT
from gateway.settings import Settings as GatewaySettings
from services.audit.settings import RetentionSettings
from services.audit.settings import Settings as AuditSettings
from services.identity.settings import Settings as IdentitySettings
from services.organizations.settings import Settings as OrganizationsSettings
from services.payments.settings import Settings as PaymentsSettings
from services.vouchers.settings import Settings as VouchersSettings
from shared.settings import ServiceSettings

CLASSES: tuple[type[BaseSettings], ...] = (
    GatewaySettings,
    IdentitySettings,
    OrganizationsSettings,
    VouchersSettings,
    PaymentsSettings,
    AuditSettings,
    RetentionSettings,
)
IN_WORDS = {"PAYMENTS_GATEWAYS"}
"""Settings whose default the page describes in words."""

_ROW = re.compile(r"\| `(?P<name>\S+?)` \| (?P<default>.*?) \| .+ \|")
PAGE = (CHECKOUT / "docs" / "settings.md").read_text()
ROWS = {row["name"]: row["default"] for row in _ROW.finditer(PAGE)}


def defaults() -> dict[str, Any]:
    """Every setting's default, by the name of its variable."""
    prefixes = {settings: str(settings.model_config["env_prefix"]) for settings in CLASSES}
    return {
        f"{prefix}{name.upper()}": field.default
        for settings, prefix in (prefixes | {ServiceSettings: "…_"}).items()
        for name, field in settings.model_fields.items()
    }


def written(default: Any) -> str:
    """A default as the page has it."""
    if default in (None, ()):
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


@pytest.mark.parametrize("name", ROWS)
def test_each_setting_is_one_and_has_its_default(name: str) -> None:
    there_is = defaults()
    assert name in there_is
    assert name in IN_WORDS or ROWS[name] == written(there_is[name])


def test_the_page_is_read() -> None:
    assert {"GATEWAY_CORS_ORIGINS", "VOUCHERS_PENDING_HOURS", "…_LOG_LEVEL"} <= ROWS.keys()
    assert len(ROWS) == PAGE.count("\n| `")
