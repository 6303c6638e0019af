"""A bad setting is named, with what to do about it."""

from pathlib import Path

import pytest

from deploy.local.errors import StartError
from deploy.local.settings import PREPARED_FILE, StackSettings
from deploy.operate.broker.access import USERS, url_variable

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


def test_users_that_are_made_already_keep_their_passwords() -> None:
    management = {"CARNET_RABBITMQ_MANAGEMENT_URL": "https://root:x@mq.example:15671"}
    settings = StackSettings.from_environment({**BROKER_URLS, **management})
    assert settings.rabbitmq_management_url is None
    assert settings.rabbitmq_urls["vouchers"] == BROKER_URLS["VOUCHERS_RABBITMQ_URL"]


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
        ({"CARNET_RABBITMQ_MANAGEMENT_URL": "http://a:b@mq.example"}, "would not be used"),
        ({"STRIPE_API_BASE": "http://stripe"}, "STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET"),
        ({"CARNET_INSTANCES": "vouchers=many"}, "CARNET_INSTANCES"),
        ({"CARNET_INSTANCES": "bookings=2"}, "CARNET_INSTANCES"),
        ({"CARNET_INSTANCES": "audit=２"}, "CARNET_INSTANCES"),
        ({"CARNET_PORT": "1" * 5000}, "CARNET_PORT"),
        ({"STRIPE_API_BASE": "stripe.com"}, "STRIPE_API_BASE is not an address"),
        ({"STRIPE_API_KEY": "sk_live_1"}, "STRIPE_API_KEY is set, but STRIPE_API_BASE is not"),
        ({"CARNET_ADMIN_EMAIL": "nobody"}, "CARNET_ADMIN_EMAIL: is not a valid email address"),
        ({"CARNET_ADMIN_EMAIL": "a@shop.invalid"}, "CARNET_ADMIN_EMAIL: is not a valid"),
        ({"CARNET_ADMIN_PASSWORD": "short"}, "CARNET_ADMIN_PASSWORD: must have from 10 to 128"),
    ],
)
def test_a_bad_setting_is_named(environment: dict[str, str], problem: str) -> None:
    with pytest.raises(StartError) as raised:
        StackSettings.from_environment(environment)
    assert problem in raised.value.problem
    assert raised.value.remedy


@pytest.mark.parametrize(
    "address", ["me@localhost", "me@shop.test", "me@a.b.localhost", "me@corp.internal", "me@test"]
)
def test_local_addresses_are_accepted_for_the_first_admin(address: str) -> None:
    settings = StackSettings.from_environment({"CARNET_ADMIN_EMAIL": address})
    assert settings.admin_email == address
    turned_off = {"CARNET_ADMIN_EMAIL": "me@localhost", "IDENTITY_LOCAL_ADDRESSES": "false"}
    with pytest.raises(StartError, match="CARNET_ADMIN_EMAIL"):
        StackSettings.from_environment(turned_off)


def test_an_administrator_who_exists_need_not_keep_the_rules_of_today(tmp_path: Path) -> None:
    given = {"CARNET_DATA": str(tmp_path), "CARNET_ADMIN_PASSWORD": "Password123!"}
    with pytest.raises(StartError, match="CARNET_ADMIN_PASSWORD"):
        StackSettings.from_environment(given)
    (tmp_path / PREPARED_FILE).write_text("{}")
    assert StackSettings.from_environment(given).admin_password == "Password123!"


def test_a_bad_password_is_not_repeated() -> None:
    with pytest.raises(StartError) as raised:
        StackSettings.from_environment({"CARNET_ADMIN_PASSWORD": "hunter2"})
    assert "hunter2" not in str(raised.value)
    assert "pydantic.dev" not in str(raised.value)


def test_instances_are_counted_per_service() -> None:
    settings = StackSettings.from_environment({"CARNET_INSTANCES": "vouchers=2, audit=3"})
    assert settings.instances == {"vouchers": 2, "audit": 3}


def test_a_card_gateway_of_the_users_own_may_have_a_secret_for_connected_accounts() -> None:
    given = {
        "STRIPE_API_BASE": "https://api.stripe.com",
        "STRIPE_API_KEY": "sk_test_1",
        "STRIPE_WEBHOOK_SECRET": "whsec_1",
    }
    stripe = StackSettings.from_environment(given).stripe
    assert stripe is not None
    assert stripe.connect_webhook_secret is None
    given["STRIPE_CONNECT_WEBHOOK_SECRET"] = "whsec_2"
    stripe = StackSettings.from_environment(given).stripe
    assert stripe is not None
    assert (stripe.webhook_secret, stripe.connect_webhook_secret) == ("whsec_1", "whsec_2")
