"""The gateway's settings, from the environment under `GATEWAY_`."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from gateway.client.trusted_proxies import TrustedProxies
from gateway.limits.rate_counters import STORE_SCHEMES, RateLimit
from gateway.routes import Service, TimeoutClass
from shared.settings import ProcessSettings, TokenSettings

CommaSeparated = Annotated[tuple[str, ...], NoDecode]


def _require_rate_limit(text: str) -> str:
    RateLimit.parse("", text)
    return text


RateLimitText = Annotated[str, AfterValidator(_require_rate_limit)]


class Settings(ProcessSettings, TokenSettings):
    """The addresses of the services, what the gateway trusts, and its limits."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    # One address or several, separated by commas: the instances of that service.
    identity_url: CommaSeparated
    organizations_url: CommaSeparated
    vouchers_url: CommaSeparated
    payments_url: CommaSeparated
    audit_url: CommaSeparated

    rabbitmq_url: SecretStr
    internal_key: SecretStr  # private JWK: signs the gateway's own calls to identity
    # Seconds without information on revocations after which no access token is accepted.
    blind_limit: float = Field(default=30, gt=0)

    trusted_proxies: CommaSeparated = ()
    tls: bool = False  # whether clients reach the gateway by https (through a proxy that ends TLS)

    body_limit: int = Field(default=1_048_576, ge=1)  # bytes
    head_limit: int = Field(default=32_768, ge=1024)  # bytes, request line and headers
    # Seconds until a body must be complete. Each `body_rate` bytes received add one second, but
    # never beyond `body_longest` seconds after the head.
    body_timeout: float = Field(default=10, gt=0)
    body_rate: float = Field(default=1024, gt=0)  # bytes a second
    body_longest: float = Field(default=60, gt=0)
    # Bytes of all bodies being received or sent to a service; one address may use a quarter.
    body_memory: int = Field(default=134_217_728, ge=65_536)
    head_timeout: float = Field(default=10, gt=0)  # seconds for the request line and headers

    connect_timeout: float = Field(default=2, gt=0)  # seconds
    # Seconds a service may stay silent: before its response begins, and between two pieces of it.
    standard_timeout: float = Field(default=15, gt=0)
    paying_timeout: float = Field(default=60, gt=0)
    exporting_timeout: float = Field(default=120, gt=0)

    # Requests per time, in the notation of the `limits` library: of one address (IPv6: of one /64)
    # for each class of route, and of one user for all routes together.
    address_limit: RateLimitText = "3000/10 seconds"
    # As many sign-ins as one identity process can hash; identity itself limits wrong passwords.
    sign_in_limit: RateLimitText = "300/10 seconds"
    webhook_limit: RateLimitText = "2000/10 seconds"
    calendar_limit: RateLimitText = "300/10 seconds"
    user_limit: RateLimitText = "2000/10 seconds"
    # redis:// or valkey://, so that several gateways count together; else each counts alone.
    limits_store: SecretStr | None = None

    in_flight_limit: int = Field(default=512, ge=1)  # requests at one service at the same time
    # Places for sign-ins alone: many of them leave identity free for users who are signed in, and
    # a sign-in that is accepted does not wait behind others that will be refused.
    sign_in_in_flight_limit: int = Field(default=64, ge=1)
    webhook_in_flight_limit: int = Field(default=64, ge=1)  # places for webhooks alone
    calendar_in_flight_limit: int = Field(default=32, ge=1)  # places for calendar feeds alone
    # Shorter than the services' own timeout, so that the gateway closes an idle connection first.
    idle_timeout: float = Field(default=30, gt=0)  # seconds
    resolve_seconds: float = Field(default=2, gt=0)  # how often the services' names are looked up
    pause_after_refusal: float = Field(default=0.5, ge=0)  # seconds without requests to it
    circuit_failures: int = Field(default=10, ge=1)  # in a row: then an instance gets no requests
    circuit_pause: float = Field(default=2, gt=0)  # except for one in so many seconds

    cors_origins: CommaSeparated = ()  # exactly as browsers send them: `https://shop.example`

    @field_validator(
        "identity_url",
        "organizations_url",
        "vouchers_url",
        "payments_url",
        "audit_url",
        "trusted_proxies",
        "cors_origins",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator(
        "identity_url", "organizations_url", "vouchers_url", "payments_url", "audit_url"
    )
    @classmethod
    def _are_origins(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{url!r} is not an http:// or https:// address")
            if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
                raise ValueError(f"{url!r} must be scheme, host and port alone")
        if not urls:
            raise ValueError("at least one address is needed")
        return urls

    @model_validator(mode="after")
    def _require_memory_of_bodies(self) -> Self:
        if self.body_memory < 4 * self.body_limit:
            raise ValueError("GATEWAY_BODY_MEMORY must be at least four times GATEWAY_BODY_LIMIT")
        return self

    @model_validator(mode="after")
    def _require_places_of_other_requests(self) -> Self:
        own = max(
            self.sign_in_in_flight_limit,
            self.webhook_in_flight_limit,
            self.calendar_in_flight_limit,
        )
        if self.in_flight_limit <= own:
            raise ValueError(
                "GATEWAY_IN_FLIGHT_LIMIT must be greater than GATEWAY_SIGN_IN_IN_FLIGHT_LIMIT,"
                " GATEWAY_WEBHOOK_IN_FLIGHT_LIMIT and GATEWAY_CALENDAR_IN_FLIGHT_LIMIT: the"
                " difference is for all other requests"
            )
        return self

    @field_validator("cors_origins")
    @classmethod
    def _are_exact(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"{origin!r} is not an origin: scheme, host and port alone")
            if origin != origin.lower() or "*" in origin or not origin.isascii():
                raise ValueError(f"{origin!r} must be as browsers send it: one host, in lower case")
        return origins

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        TrustedProxies(networks)
        return networks

    @field_validator("limits_store")
    @classmethod
    def _is_store(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and urlsplit(url.get_secret_value()).scheme not in STORE_SCHEMES:
            raise ValueError(f"must begin with one of {', '.join(STORE_SCHEMES)}")
        return url

    def instances(self, service: Service) -> tuple[str, ...]:
        """Return the addresses of a service's instances."""
        urls: dict[Service, tuple[str, ...]] = {
            Service.IDENTITY: self.identity_url,
            Service.ORGANIZATIONS: self.organizations_url,
            Service.VOUCHERS: self.vouchers_url,
            Service.PAYMENTS: self.payments_url,
            Service.AUDIT: self.audit_url,
        }
        return urls[service]

    def silence_timeout(self, timeout_class: TimeoutClass) -> float:
        """Return how many seconds a service may stay silent on a route of this class."""
        seconds = {
            TimeoutClass.STANDARD: self.standard_timeout,
            TimeoutClass.PAYING: self.paying_timeout,
            TimeoutClass.EXPORTING: self.exporting_timeout,
        }
        return seconds[timeout_class]
