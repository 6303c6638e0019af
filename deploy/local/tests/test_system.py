"""The environment of each process."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from deploy.local import credentials
from deploy.local.secret_store import SecretStore
from deploy.local.settings import StackSettings, StripeSettings
from deploy.local.stack import Stack
from deploy.local.system import SERVICES, Instance, System
from deploy.operate.broker import access


@pytest.fixture
def system(tmp_path: Path) -> System:
    """The system of two instances of vouchers and payments, with servers of the user's own."""
    settings = StackSettings(
        data=tmp_path,
        database_url="postgresql://root:secret@db.example:6000/shop?sslmode=require",
        rabbitmq_url="amqp://u:p@mq.example/",
        instances={"vouchers": 2, "payments": 2},
    )
    return Stack(settings, print, {"vouchers-api-2": {"FAILPOINT": "x:1"}}).system


def instance(system: System, name: str) -> Instance:
    return next(found for found in system.instances if found.name == name)


def test_every_service_has_an_api_and_a_worker_and_there_is_one_gateway(system: System) -> None:
    names = [found.name for found in system.instances]
    assert len(names) == len(set(names)) == 2 * len(SERVICES) + 2 * 2 + 1
    assert {"vouchers-api", "vouchers-api-2", "vouchers-worker-2", "gateway"} <= set(names)


def test_ports_are_distinct(system: System) -> None:
    ports = [port for i in system.instances for port in (i.port, i.operations_port) if port]
    assert len(ports) == len(set(ports))


def test_a_service_signs_in_as_its_own_role_to_the_users_server(system: System) -> None:
    told = system.environment(instance(system, "audit-worker"))
    password = system.credentials["audit"].password
    expected = f"postgresql://audit:{password}@db.example:6000/shop?sslmode=require"
    assert told["AUDIT_DATABASE_URL"] == expected
    assert told["AUDIT_RABBITMQ_URL"] == system.broker_urls["audit"]
    assert re.fullmatch(r"amqp://audit:[\w-]{32}@mq\.example/", system.broker_urls["audit"])
    assert len(set(system.broker_urls.values())) == len(access.USERS)
    assert "AUDIT_OWNER_DATABASE_URL" not in told
    assert "postgresql://audit_owner:" in system.one_off("audit")["AUDIT_OWNER_DATABASE_URL"]


def test_a_process_gets_no_setting_of_another_service(system: System) -> None:
    told = system.environment(instance(system, "vouchers-api"))
    others = [name for name in SERVICES if name != "vouchers"]
    assert not [name for name in told if name.lower().startswith(tuple(f"{o}_" for o in others))]
    assert not [value for name, value in told.items() if "_owner" in value]


def test_the_gateway_knows_every_instance(system: System) -> None:
    told = system.environment(instance(system, "gateway"))
    urls = [instance(system, name).url for name in ("vouchers-api", "vouchers-api-2")]
    assert told["GATEWAY_VOUCHERS_URL"] == ",".join(urls)
    assert not [name for name in told if "DATABASE" in name]


def test_a_service_knows_every_instance_of_those_it_calls(system: System) -> None:
    told = system.environment(instance(system, "vouchers-api-2"))
    urls = [instance(system, name).url for name in ("payments-api", "payments-api-2")]
    assert told["VOUCHERS_PAYMENTS_URL"] == ",".join(urls)


def test_services_know_the_gateways_key(system: System) -> None:
    told = system.environment(instance(system, "gateway"))
    public = ECKey.import_key(json.loads(told["GATEWAY_INTERNAL_KEY"])).as_dict(private=False)
    told = system.environment(instance(system, "identity-api"))
    assert public in json.loads(told["IDENTITY_INTERNAL_JWKS"])["keys"]


def test_extra_variables_reach_the_process_they_are_for(system: System) -> None:
    assert system.environment(instance(system, "vouchers-api-2"))["FAILPOINT"] == "x:1"
    assert "FAILPOINT" not in system.environment(instance(system, "vouchers-api"))
    for_all = replace(system, extra={"audit": {"FAILPOINT": "y:1"}})
    assert for_all.environment(instance(for_all, "audit-worker"))["FAILPOINT"] == "y:1"


def test_an_operators_setting_reaches_its_process_and_no_other(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_CORS_ORIGINS", "https://shop.example")
    monkeypatch.setenv("VOUCHERS_PENDING_HOURS", "48")
    monkeypatch.setenv("VOUCHERS_DATABASE_URL", "postgresql://nowhere")
    told = {i.name: system.environment(i) for i in system.instances}
    assert {n for n, e in told.items() if "GATEWAY_CORS_ORIGINS" in e} == {"gateway"}
    pending = {n for n, e in told.items() if e.get("VOUCHERS_PENDING_HOURS") == "48"}
    assert pending == {n for n in told if n.startswith("vouchers-")}
    assert told["vouchers-api"]["VOUCHERS_DATABASE_URL"] == system.role_url("vouchers")


def test_internal_calls_verify_with_the_public_keys_alone(system: System) -> None:
    private = ECKey.import_key(json.loads(system.credentials["payments"].internal_key))
    public = json.loads(system.internal_jwks)
    assert not [key for key in public["keys"] if "d" in key]
    token = jwt.encode({"alg": "ES256", "kid": "payments"}, {"sub": "payments"}, private)
    assert jwt.decode(token, KeySet.import_key_set(public)).claims == {"sub": "payments"}


def test_secrets_are_made_once_and_kept_private(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    first = credentials.service_credentials(SecretStore(file))
    assert credentials.service_credentials(SecretStore(file)) == first
    assert file.stat().st_mode & 0o777 == 0o600


def test_payments_has_what_accounts_of_organizations_need(system: System) -> None:
    variables = system.environment(instance(system, "payments-api"))
    secret = variables["PAYMENTS_STRIPE_CONNECT_WEBHOOK_SECRET"]
    assert secret.startswith("whsec_")
    assert secret != variables["PAYMENTS_STRIPE_WEBHOOK_SECRET"]
    assert variables["PAYMENTS_STRIPE_PUBLISHABLE_KEY"] == "pk_test_local"
    assert variables["PAYMENTS_STRIPE_CLIENT_ID"].startswith("ca_")
    others = system.environment(instance(system, "vouchers-api"))
    assert not [name for name in others if "STRIPE" in name]


def test_a_card_gateway_of_the_users_own_gets_no_value_of_the_local_one(tmp_path: Path) -> None:
    settings = StackSettings(
        data=tmp_path,
        database_url="postgresql://root:secret@db.example/shop",
        rabbitmq_url="amqp://u:p@mq.example/",
        stripe=StripeSettings("https://api.stripe.com", "sk_test_1", "whsec_1"),
    )
    system = Stack(settings, print, {}).system
    variables = system.environment(instance(system, "payments-api"))
    stripe = {name for name in variables if name.startswith("PAYMENTS_STRIPE_")}
    assert stripe == {
        f"PAYMENTS_STRIPE_{name}" for name in ("API_BASE", "API_KEY", "WEBHOOK_SECRET")
    }
