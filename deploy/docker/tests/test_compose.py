"""docker-compose.yml describes the same system as the local stack, and keeps it closed."""

import importlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from deploy.docker.environment import sections
from deploy.local.settings import StackSettings
from deploy.local.stack import Stack
from deploy.local.system import CHECKOUT, SERVICES, SHARED_VARIABLES, Instance, System
from gateway.routes import Service
from gateway.settings import Settings as GatewaySettings
from services.audit.settings import RetentionSettings, VerificationSettings
from services.identity.bootstrap import BootstrapSettings
from services.identity.settings import Settings as IdentitySettings
from services.payments.gateways import AccountMode
from services.payments.gateways.stripe import StripeGateway
from services.payments.models import Method
from services.payments.settings import Settings as PaymentsSettings
from services.vouchers.settings import Settings as VouchersSettings
from shared.migrations import OwnerSettings
from shared.version import VERSION

COMPOSE = CHECKOUT / "docker-compose.yml"
BUCKET = CHECKOUT / "deploy" / "docker" / "bucket.yml"
DOCKERFILE = "deploy/docker/Dockerfile"
STRIPE = {"STRIPE_API_KEY": "sk_live_1", "STRIPE_WEBHOOK_SECRET": "whsec_1"}
# `${NAME}`, `${NAME:-default}`, `${NAME:?message}`
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")
_ADDRESS = re.compile(r"\w+://(?:[^@/]+@)?(?P<host>[a-z-]+):(?P<port>\d+)")
_SERVER_PORTS = {"postgres": "5432", "rabbitmq": "5672", "card-gateway": "8420"}

Services = dict[str, dict[str, Any]]


def resolve(value: Any, variables: Mapping[str, str]) -> Any:
    """Interpolate as Docker Compose does. Raises LookupError for a variable that must be given."""
    if isinstance(value, dict):
        passed_on = {k: variables.get(k) if v is None else v for k, v in value.items()}
        return {
            key: resolve(item, variables)
            for key, item in passed_on.items()
            if not (item is None and key.isupper())
        }
    if isinstance(value, list):
        return [resolve(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        given = variables.get(match["name"], "")
        if not given and match["kind"] == "?":
            raise LookupError(f"{match['name']}: {match['rest']}")
        return given or (match["rest"] if match["kind"] == "-" else "") or ""

    return _VARIABLE.sub(replacement, value)


def generated(*, development: bool = False) -> dict[str, str]:
    parts = sections("admin@example.com", development=development)
    return {name: value for _, variables in parts for name, value in variables.items()}


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


@pytest.fixture(scope="session")
def services(document: dict[str, Any]) -> Services:
    resolved: Services = resolve(document["services"], generated() | STRIPE)
    return resolved


@pytest.fixture
def system(tmp_path: Path) -> System:
    settings = StackSettings(
        data=tmp_path,
        database_url="postgresql://root:secret@db.example/carnet",
        rabbitmq_url="amqp://u:p@mq.example/",
    )
    return Stack(settings, print, {}).system


JOBS = {
    "provision",
    "broker-definitions",
    "identity-bootstrap",
    *(f"{name}-migrate" for name in SERVICES),
}
"""What runs at each start and ends."""


def name_of(instance: Instance) -> str:
    """A service's API has the service's name, because `--scale` takes this name."""
    return instance.name.removesuffix("-api")


def networks(service: Mapping[str, Any]) -> set[str]:
    return set(service["networks"])


def image_of(service: Mapping[str, Any]) -> str:
    image: str = service["image"]
    return image


def test_every_process_is_there_with_the_settings_of_the_local_stack(
    system: System, services: Services
) -> None:
    for instance in system.instances:
        service = services[name_of(instance)]
        prefix = f"{instance.owner.upper()}_"
        wanted = {name for name in system.environment(instance) if name.startswith(prefix)}
        # Administrators of an installation need a second factor, unless its operator decides.
        wanted.discard("IDENTITY_ADMINS_NEED_SECOND_FACTOR")
        assert service["command"] == [instance.module]
        assert wanted <= set(service["environment"]), instance.name


def test_there_is_nothing_else(system: System, services: Services) -> None:
    servers = {"postgres", "rabbitmq", "card-gateway"}
    jobs = JOBS | {"dead-letters"}
    assert set(services) == servers | jobs | {name_of(i) for i in system.instances}


def test_secrets_are_all_made_but_the_card_gateways(document: dict[str, Any]) -> None:
    with pytest.raises(LookupError, match="STRIPE_"):
        resolve(document, generated())
    for name in STRIPE:
        with pytest.raises(LookupError, match=name):
            resolve(document, generated() | STRIPE | {name: ""})
    resolve(document, generated(development=True))


@pytest.mark.parametrize("name", sorted(set(generated()) - {"CARNET_ADMIN_EMAIL"}))
def test_no_secret_has_a_default(document: dict[str, Any], name: str) -> None:
    with pytest.raises(LookupError, match=name):
        resolve(document, generated() | STRIPE | {name: ""})


COMMAND_SETTINGS = (RetentionSettings, VerificationSettings)
"""Settings of commands that operators run by hand: no process of the service reads them."""


def settings_of(service: str) -> list[type[BaseSettings]]:
    """Every settings class that a service's processes read from the environment."""
    names = ("settings", "gateways.stripe") if service == "payments" else ("settings",)
    modules = [importlib.import_module(f"services.{service}.{name}") for name in names]
    return [
        found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, BaseSettings)
        and found.__module__ == module.__name__
        and found not in COMMAND_SETTINGS
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_finds_its_settings(
    service: str, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services[service]["environment"].items():
        monkeypatch.setenv(name, value)
    found = [settings() for settings in settings_of(service)]
    assert found
    assert services[f"{service}-worker"]["environment"] == services[service]["environment"]


def test_a_setting_that_is_passed_on_arrives(
    document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with a slip would be passed on just as silently."""
    given = {
        "IDENTITY_ADMINS_NEED_SECOND_FACTOR": "false",
        "IDENTITY_REVEAL_EXISTING": "true",
        "IDENTITY_SELF_REGISTRATION": "false",
        "PAYMENTS_ACCOUNTS": "organization",
        "PAYMENTS_FORMER_GATEWAYS": '["stripe"]',
        "PAYMENTS_GATEWAYS": '{"credit_card": "manual"}',
        "PAYMENTS_WEBHOOK_BODIES_DAYS": "30",
        "VOUCHERS_PENDING_HOURS": "48",
        "VOUCHERS_PENDING_DAYS": "14",
        "GATEWAY_CORS_ORIGINS": "https://shop.example,https://app.example",
    }
    containers = document["services"].values()
    told = [service.get("environment", {}) for service in containers]
    assert {k for one in told for k, v in one.items() if v is None} == set(given)
    resolved: Services = resolve(document["services"], generated() | STRIPE | given)
    for service in ("identity", "payments", "vouchers", "gateway"):
        for name, value in resolved[service]["environment"].items():
            monkeypatch.setenv(name, value)
    assert not IdentitySettings().self_registration
    assert not IdentitySettings().admins_need_second_factor
    assert IdentitySettings().reveal_existing
    payments = PaymentsSettings()
    assert payments.accounts == "organization"
    assert payments.former_gateways == ("stripe",)
    assert payments.gateways[Method.CREDIT_CARD] == "manual"
    assert payments.accounts is AccountMode.ORGANIZATION
    assert payments.webhook_bodies_days == 30
    assert isinstance(payments.open_gateways().named("stripe"), StripeGateway)
    vouchers = VouchersSettings()
    assert vouchers.accounts == "organization"
    assert (vouchers.pending_hours, vouchers.pending_days) == (48, 14)
    assert GatewaySettings().cors_origins == ("https://shop.example", "https://app.example")


def test_accounts_of_organizations_need_only_one_variable_in_development(
    document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = generated(development=True) | {"PAYMENTS_ACCOUNTS": "organization"}
    resolved: Services = resolve(document["services"], variables)
    for name, value in resolved["payments"]["environment"].items():
        monkeypatch.setenv(name, value)
    gateway = PaymentsSettings().open_gateways().named("stripe")
    assert isinstance(gateway, StripeGateway)
    assert gateway.publishable_key == "pk_test_local"
    sender = resolved["card-gateway"]["environment"]
    secret = variables["STRIPE_CONNECT_WEBHOOK_SECRET"]
    assert sender["CARD_GATEWAY_CONNECT_WEBHOOK_SECRET"] == secret
    assert sender["CARD_GATEWAY_CONNECT_WEBHOOK_URL"].endswith("/webhooks/stripe/connect")
    assert secret != variables["STRIPE_WEBHOOK_SECRET"]


def test_without_their_secret_accounts_of_organizations_are_refused(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services["payments"]["environment"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PAYMENTS_ACCOUNTS", "organization")
    with pytest.raises(SystemExit, match="STRIPE_CONNECT_WEBHOOK_SECRET: is not set"):
        PaymentsSettings().open_gateways()


def test_the_bootstrap_finds_the_first_admin(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services["identity-bootstrap"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = BootstrapSettings()
    assert settings.admin_email == "admin@example.com"
    working = services["identity"]["environment"]["IDENTITY_DATABASE_URL"]
    assert os.environ["IDENTITY_DATABASE_URL"] == working


def test_the_gateway_finds_its_settings(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services["gateway"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = GatewaySettings()
    assert settings.instances(Service.VOUCHERS) == ("http://vouchers:8000",)
    assert settings.trusted_proxies == ()


@pytest.mark.parametrize("service", SERVICES)
def test_each_migration_runs_once_as_the_owner_before_its_service(
    service: str, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = services[f"{service}-migrate"]
    for name, value in job["environment"].items():
        monkeypatch.setenv(name, value)
    url = OwnerSettings(_env_prefix=f"{service.upper()}_").owner_database_url.get_secret_value()
    assert f"//{service}_owner:" in url
    assert job["command"] == [f"services.{service}.migrate"]
    assert image_of(job) == image_of(services[service])
    completed = {"condition": "service_completed_successfully"}
    assert job["depends_on"] == {"provision": completed}
    last = "identity-bootstrap" if service == "identity" else f"{service}-migrate"
    assert services[service]["depends_on"][last] == completed
    assert services[f"{service}-worker"]["depends_on"][last] == completed


def test_jobs_end_and_everything_else_is_restarted(services: Services) -> None:
    jobs = {name for name, service in services.items() if service["restart"] == "no"}
    assert jobs == JOBS | {"dead-letters"}
    assert {services[name]["restart"] for name in set(services) - jobs} == {"unless-stopped"}


def test_the_passwords_that_are_set_are_those_that_are_used(services: Services) -> None:
    given = services["provision"]["environment"]
    for service in SERVICES:
        prefix = service.upper()
        for job, name in ((service, "DATABASE"), (f"{service}-migrate", "OWNER_DATABASE")):
            url = services[job]["environment"][f"{prefix}_{name}_URL"]
            assert f":{given[f'{prefix}_{name}_PASSWORD']}@" in url


def test_every_address_is_a_container_that_can_be_reached(services: Services) -> None:
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            for match in _ADDRESS.finditer(value):
                other = services[match["host"]]
                reached = other is service or networks(other) & networks(service)
                assert reached, f"{name} cannot reach {match['host']} of {variable}"
                listening = other.get("environment", {}).get(f"{match['host'].upper()}_PORT")
                assert match["port"] == _SERVER_PORTS.get(match["host"], listening)


def test_no_process_gets_another_services_secrets(services: Services) -> None:
    for name, service in services.items():
        owner = name.partition("-")[0]
        if owner in (*SERVICES, "gateway"):
            others = SHARED_VARIABLES.get(owner, ())
            names = service["environment"].keys() - set(others)
            assert all(variable.startswith(f"{owner.upper()}_") for variable in names), name


def test_only_the_gateway_is_published_and_on_this_machine_by_default(services: Services) -> None:
    assert [name for name, service in services.items() if "ports" in service] == ["gateway"]
    assert services["gateway"]["ports"] == ["127.0.0.1:8080:8000"]


def test_services_can_be_scaled(services: Services) -> None:
    fixed = {"container_name", "network_mode"}
    assert not [name for name, service in services.items() if fixed & set(service)]


def test_the_database_is_not_on_a_network_that_leads_outside(
    document: dict[str, Any], services: Services
) -> None:
    inner = {name for name, network in document["networks"].items() if network}
    assert networks(services["postgres"]) == {"database"} <= inner
    assert networks(services["rabbitmq"]) == {"messages"} <= inner
    assert not networks(services["gateway"]) & networks(services["postgres"])
    outer = {name: networks(service) - inner for name, service in services.items()}
    leading_outside = {name for name, found in outer.items() if found}
    senders_of_mail = {"identity-worker", "vouchers-worker", "payments-worker"}
    assert leading_outside == {"gateway", "payments", *senders_of_mail}
    assert not outer["gateway"] & (outer["payments"] | outer["payments-worker"])


def test_a_bucket_opens_a_way_out_for_the_audit_containers_alone(
    document: dict[str, Any], services: Services
) -> None:
    added = yaml.safe_load(BUCKET.read_text())
    resolved = resolve(added["services"], {"AUDIT_SEALS": "s3://seals/carnet"})
    told = {
        name
        for name, service in services.items()
        if "AUDIT_SEALS" in service.get("environment", {})
    }
    assert set(resolved) == told
    assert not added["networks"].keys() & document["networks"].keys()
    for service in resolved.values():
        assert service["environment"] == {"AUDIT_SEALS": "s3://seals/carnet"}
        assert networks(service) == {name for name, kept in added["networks"].items() if not kept}
    with pytest.raises(LookupError, match="AUDIT_SEALS"):
        resolve(added, {})


def test_every_container_is_contained(services: Services) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert not {"privileged", "cap_add", "devices"} & set(service), name


def test_images_are_of_a_version_and_ours_come_from_the_one_dockerfile(services: Services) -> None:
    built = {image_of(s): s["build"] for s in services.values() if "build" in s}
    for service in services.values():
        name, _, tag = image_of(service).partition(":")
        assert tag not in ("", "latest")
        if name.startswith("carnet/"):
            assert tag == VERSION
            assert built[image_of(service)]["dockerfile"] == DOCKERFILE
    for owner in (*SERVICES, "gateway"):
        assert built[f"carnet/{owner}:{VERSION}"]["args"]["SERVICE"] == owner


def test_the_dockerfile_ends_with_an_ordinary_user_and_no_shell() -> None:
    text = (CHECKOUT / DOCKERFILE).read_text()
    assert "USER 10001:10001" in text
    assert 'ENTRYPOINT ["python", "-m"]' in text
    assert "--require-hashes" in text
    assert ":latest" not in text


def test_the_local_card_gateway_runs_for_development_alone(services: Services) -> None:
    profiled = {name: s["profiles"] for name, s in services.items() if "profiles" in s}
    assert profiled == {"card-gateway": ["development"], "dead-letters": ["operations"]}
    assert generated(development=True)["COMPOSE_PROFILES"] == "development"
