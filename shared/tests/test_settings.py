"""A process that lacks what it needs to be safe refuses to start."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.settings import ServiceSettings
from shared.testing import Tokens

NEEDED = (
    "database_url",
    "rabbitmq_url",
    "token_issuer",
    "token_audience",
    "internal_key",
    "internal_jwks",
    "jwks",
)


def complete(tokens: Tokens) -> dict[str, Any]:
    return {
        "database_url": "postgres://role:canary-4711@localhost/db",
        "rabbitmq_url": "amqp://localhost",
        **tokens.settings("audit"),
    }


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*NEEDED, "jwks_url"):
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("missing", NEEDED)
def test_what_is_missing_is_named(tokens: Tokens, missing: str) -> None:
    given = complete(tokens)
    del given[missing]
    with pytest.raises(ValidationError) as refused:
        ServiceSettings(**given)
    assert missing.upper() in str(refused.value).upper()


def test_keys_have_one_source(tokens: Tokens) -> None:
    with pytest.raises(ValidationError):
        ServiceSettings(**complete(tokens), jwks_url="http://identity/.well-known/jwks.json")


def test_a_database_is_postgresql_and_its_password_stays_hidden(tokens: Tokens) -> None:
    settings = ServiceSettings(**complete(tokens))
    assert settings.database_url.get_secret_value().startswith("postgresql+asyncpg://role:")
    assert "canary" not in repr(settings)
    with pytest.raises(ValidationError):
        ServiceSettings(**{**complete(tokens), "database_url": "mysql://localhost/db"})


def test_the_idempotency_secret_is_long_or_not_set(tokens: Tokens) -> None:
    # Docker Compose passes on a variable that `.env` lacks as an empty one.
    unset = ServiceSettings(**{**complete(tokens), "idempotency_secret": ""})
    assert unset.idempotency_secret is None
    with pytest.raises(ValidationError) as refused:
        ServiceSettings(**{**complete(tokens), "idempotency_secret": "canary-4711"})
    assert "canary" not in str(refused.value)
