"""docs/settings.md lists every setting of every process, with its default."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_settings import BaseSettings

import gateway
import services
import shared
from deploy.local.system import CHECKOUT

SHARED_PREFIX = "…_"
"""The page lists a setting that several processes have once, with this prefix."""
DEFAULT_IN_WORDS = {"PAYMENTS_GATEWAYS"}

_ROW = re.compile(r"\| `(?P<name>\S+?)` \| (?P<default>.*?) \| .+ \|")
_NO_SETTINGS = re.compile(r"\.(tests|migrations)\.|\.testing")
PAGE = (CHECKOUT / "docs" / "settings.md").read_text()
ROWS = {row["name"]: row["default"] for row in _ROW.finditer(PAGE)}


def settings_classes() -> Iterator[type[BaseSettings]]:
    """Yield every class of settings in production code."""
    for package in (gateway, services, shared):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if _NO_SETTINGS.search(f"{module.name}.") is None:
                importlib.import_module(module.name)
    remaining = BaseSettings.__subclasses__()
    while remaining:
        settings_class = remaining.pop()
        remaining += settings_class.__subclasses__()
        module_name = settings_class.__module__
        is_ours = module_name.partition(".")[0] in ("gateway", "services", "shared")
        # Tests that ran before in this process may have defined settings of their own.
        if is_ours and ".tests." not in f"{module_name}.":
            yield settings_class


def as_written(default: Any) -> str:
    """Return a default as the page shows it."""
    if default in (None, ()):
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def all_defaults() -> dict[str, set[str]]:
    """Return the defaults of every variable; inherited fields belong to the base class."""
    defaults: dict[str, set[str]] = {}
    for settings_class in settings_classes():
        prefix = settings_class.model_config.get("env_prefix") or SHARED_PREFIX
        for name in settings_class.__annotations__.keys() & settings_class.model_fields.keys():
            field = settings_class.model_fields[name]
            default = "required" if field.is_required() else as_written(field.default)
            variable = field.validation_alias or f"{prefix}{name.upper()}"
            defaults.setdefault(str(variable), set()).add(default)
    return defaults


DEFAULTS = all_defaults()


@pytest.mark.parametrize("name", sorted(ROWS))
def test_each_row_is_a_setting_with_its_default(name: str) -> None:
    assert name in DEFAULTS
    assert name in DEFAULT_IN_WORDS or ROWS[name] in DEFAULTS[name]


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_each_setting_has_a_row(name: str) -> None:
    shared_name = SHARED_PREFIX + name.partition("_")[2]
    assert name in ROWS or ROWS.get(shared_name) in DEFAULTS[name]


def test_the_page_is_read() -> None:
    assert {"GATEWAY_CORS_ORIGINS", "VOUCHERS_PENDING_HOURS", "…_LOG_LEVEL"} <= ROWS.keys()
    assert len(ROWS) == PAGE.count("\n| `")
