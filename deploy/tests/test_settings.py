"""A bad setting is named, with what to do about it."""

from pathlib import Path

import pytest

from deploy.local.errors import StartError
from deploy.local.settings import StackSettings


def test_everything_has_a_default() -> None:
    settings = StackSettings.from_environment({"CARNET_PORT": "", "CARNET_DATABASE_URL": ""})
    assert settings.port == 8080
    assert settings.data == Path(".carnet").resolve()
    assert settings.database_url is None


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"CARNET_PORT": "http"}, "CARNET_PORT is 'http'"),
        ({"CARNET_PORT": "70000"}, "CARNET_PORT is '70000'"),
        ({"CARNET_DATABASE_URL": "mysql://a@b/c"}, "CARNET_DATABASE_URL"),
        ({"CARNET_DATABASE_URL": "postgresql://a:b@host:port/c"}, "CARNET_DATABASE_URL"),
        ({"CARNET_RABBITMQ_URL": "localhost:5672"}, "CARNET_RABBITMQ_URL"),
        ({"STRIPE_API_BASE": "http://stripe"}, "STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET"),
        ({"CARNET_INSTANCES": "vouchers=many"}, "CARNET_INSTANCES"),
        ({"CARNET_INSTANCES": "bookings=2"}, "CARNET_INSTANCES"),
    ],
)
def test_a_bad_setting_is_named(environment: dict[str, str], problem: str) -> None:
    with pytest.raises(StartError) as raised:
        StackSettings.from_environment(environment)
    assert problem in raised.value.problem
    assert raised.value.remedy


def test_instances_are_counted_per_service() -> None:
    settings = StackSettings.from_environment({"CARNET_INSTANCES": "vouchers=2, audit=3"})
    assert settings.instances == {"vouchers": 2, "audit": 3}
