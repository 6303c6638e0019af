"""A bad setting is named, with what to do about it."""

from pathlib import Path

import pytest

from deploy.broker.access import USERS, url_variable
from deploy.local.errors import StartError
from deploy.local.settings import StackSettings

BROKER_URLS = {url_variable(user): f"amqp://{user}:x@mq.example/shop" for user in USERS}


def test_a_broker_of_the_users_own_is_given_for_each_user() -> None:
    settings = StackSettings.from_environment(BROKER_URLS)
    assert settings.rabbitmq_url == BROKER_URLS["OPERATOR_RABBITMQ_URL"]
    assert settings.rabbitmq_urls["vouchers"] == "amqp://vouchers:x@mq.example/shop"


def test_a_broker_of_the_users_own_may_be_given_with_its_administrator() -> None:
    given = {
        "CARNET_RABBITMQ_URL": "amqp://mq.example/shop",
        "CARNET_RABBITMQ_MANAGEMENT_URL": "https://root:x@mq.example:15671",
    }
    settings = StackSettings.from_environment(given)
    assert settings.rabbitmq_url == given["CARNET_RABBITMQ_URL"]
    assert settings.rabbitmq_management_url == given["CARNET_RABBITMQ_MANAGEMENT_URL"]
    assert settings.rabbitmq_urls == {}


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
        ({"CARNET_RABBITMQ_URL": "amqp://a:b@mq.example/"}, "IDENTITY_RABBITMQ_URL, ORG"),
        ({"AUDIT_RABBITMQ_URL": "amqp://audit:b@mq.example/"}, "IDENTITY_RABBITMQ_URL, ORG"),
        ({**BROKER_URLS, "OPERATOR_RABBITMQ_URL": "amqp://carnet:b@mq.example/"}, "as 'carnet'"),
        ({"CARNET_RABBITMQ_MANAGEMENT_URL": "amqp://a:b@mq.example"}, "MANAGEMENT_URL"),
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
