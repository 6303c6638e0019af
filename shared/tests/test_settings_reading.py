"""Bad settings are named by their variables, with the rule and without the value."""

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings import BadSettings, DatabaseUrl, load_settings, read_settings


class Example(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="EXAMPLE_", extra="ignore")

    hours: int = Field(default=1, ge=1)
    names: tuple[str, ...] = ()
    limits: dict[str, int] = Field(default_factory=dict)
    password: SecretStr = Field(default=SecretStr("long enough"), min_length=10)
    database_url: DatabaseUrl


def problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    for name, value in {"DATABASE_URL": "postgresql://a:b@c/d", **variables}.items():
        monkeypatch.setenv(f"EXAMPLE_{name}", value)
    with pytest.raises(BadSettings) as raised:
        read_settings(Example)
    return raised.value.problems


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("HOURS", "0", "EXAMPLE_HOURS: must be greater than or equal to 1"),
        ("NAMES", "a,b", "EXAMPLE_NAMES: must be JSON"),
        ("LIMITS", '{"a": "x"}', "EXAMPLE_LIMITS[a]: must be a valid integer"),
        ("PASSWORD", "hunter2", "EXAMPLE_PASSWORD: must have at least 10 characters, not 7"),
        ("DATABASE_URL", "mysql://a:b@c/d", "EXAMPLE_DATABASE_URL: must be a postgresql:// URL"),
    ],
)
def test_the_variable_and_the_rule_are_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    [found] = problems(monkeypatch, **{name: value})
    assert found.startswith(problem)
    assert "http" not in found
    assert "hunter2" not in found


def test_every_bad_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(problems(monkeypatch, HOURS="x", PASSWORD="y")) == 2


def test_a_missing_setting_is_reported_and_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("EXAMPLE_DATABASE_URL", raising=False)
    with pytest.raises(SystemExit) as ended:
        load_settings(Example)
    assert "EXAMPLE_DATABASE_URL: is not set" in str(ended.value)


def test_another_name_may_be_shown_for_a_field() -> None:
    with pytest.raises(BadSettings, match="THEIR_HOURS: must be"):
        read_settings(
            Example, names={"hours": "THEIR_HOURS"}, hours=0, database_url="postgresql://a:b@c/d"
        )
