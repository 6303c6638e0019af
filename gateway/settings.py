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
    """Where the services are, whom to believe, and how much of anything is enough."""

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
    # Seconds without news of revocations after which no access token is trusted any more.
    blind_limit: float = Field(default=30, gt=0)

    trusted_proxies: CommaSeparated = ()
    tls: bool = False  # whether clients reach the gateway by https (through a proxy that ends TLS)

    body_limit: int = Field(default=1_048_576, ge=1)  # bytes
    head_limit: int = Field(default=32_768, ge=1024)  # bytes, request line and headers
    # A body must be there within so many seconds, and one more for each `body_rate` bytes of it
    # that have arrived, but never later than `body_longest` seconds after its head.
    body_timeout: float = Field(default=10, gt=0)
    body_rate: float = Field(default=1024, gt=0)  # bytes a second
    body_longest: float = Field(default=60, gt=0)
    # Bytes of all bodies that are arriving or on their way to a service, a quarter for one address.
    body_memory: int = Field(default=134_217_728, ge=65_536)
    head_timeout: float = Field(default=10, gt=0)  # seconds for the request line and headers

    connect_timeout: float = Field(default=2, gt=0)  # seconds
    # Seconds a service may stay silent: before its answer begins, and between two pieces of it.
    standard_timeout: float = Field(default=15, gt=0)
    paying_timeout: float = Field(default=60, gt=0)
    exporting_timeout: float = Field(default=120, gt=0)

    # How many requests pass in how long a time, as the `limits` library writes it. From one address
    # (the /64 of IPv6) by class of route, and from one user whatever the route.
    address_limit: RateLimitText = "3000/10 seconds"
    # As many sign-ins as one identity process can hash; guesses are its own business to count.
    sign_in_limit: RateLimitText = "300/10 seconds"
    webhook_limit: RateLimitText = "2000/10 seconds"
    user_limit: RateLimitText = "2000/10 seconds"
    # redis:// or valkey:// when several gateways count together; each counts for itself without.
    limits_store: SecretStr | None = None

    in_flight_limit: int = Field(default=512, ge=1)  # requests at one service at the same time
    # Of these, places for sign-ins alone: a flood of them leaves identity free for those who are
    # signed in, and those it takes are not kept waiting behind ones that it would refuse.
    sign_in_in_flight_limit: int = Field(default=64, ge=1)
    webhook_in_flight_limit: int = Field(default=64, ge=1)  # places for webhooks alone
    # Shorter than the services keep an idle connection, so that we are the first to let go of it.
    idle_timeout: float = Field(default=30, gt=0)  # seconds
    resolve_seconds: float = Field(default=2, gt=0)  # how often the services' names are looked up
    pause_after_refusal: float = Field(default=0.5, ge=0)  # seconds an instance is left alone
    circuit_failures: int = Field(default=10, ge=1)  # in a row: then an instance is left alone,
    circuit_pause: float = Field(default=2, gt=0)  # but for one request in so many seconds

    cors_origins: CommaSeparated = ()  # whose pages may call us: `https://shop.example`, exactly

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
    def _holds_bodies(self) -> Self:
        if self.body_memory < 4 * self.body_limit:
            raise ValueError("GATEWAY_BODY_MEMORY must be at least four times GATEWAY_BODY_LIMIT")
        return self

    @model_validator(mode="after")
    def _leaves_places_to_all_others(self) -> Self:
        own = max(self.sign_in_in_flight_limit, self.webhook_in_flight_limit)
        if self.in_flight_limit <= own:
            raise ValueError(
                "GATEWAY_IN_FLIGHT_LIMIT must be greater than GATEWAY_SIGN_IN_IN_FLIGHT_LIMIT and"
                " GATEWAY_WEBHOOK_IN_FLIGHT_LIMIT: the difference is for all other requests"
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
        """The addresses of a service's instances."""
        urls: dict[Service, tuple[str, ...]] = {
            Service.IDENTITY: self.identity_url,
            Service.ORGANIZATIONS: self.organizations_url,
            Service.VOUCHERS: self.vouchers_url,
            Service.PAYMENTS: self.payments_url,
            Service.AUDIT: self.audit_url,
        }
        return urls[service]

    def silence_timeout(self, timeout_class: TimeoutClass) -> float:
        """How long a service may stay silent on a route of this class, in seconds."""
        seconds = {
            TimeoutClass.STANDARD: self.standard_timeout,
            TimeoutClass.PAYING: self.paying_timeout,
            TimeoutClass.EXPORTING: self.exporting_timeout,
        }
        return seconds[timeout_class]
