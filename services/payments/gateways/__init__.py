"""The payment gateways. A new one is one file here, named in PAYMENTS_GATEWAYS (docs/payments.md).

The file has `open_gateway()`, which reads its own settings from the environment. The rest of the
service imports everything about gateways from this package.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from typing import cast

from services.payments.gateways.card_storage import CardOrder, CardStorage
from services.payments.gateways.connecting import (
    AccountLink,
    AccountOrder,
    CannotDisconnect,
    ConnectingGateway,
)
from services.payments.gateways.manual import BY_HAND, handed_over
from services.payments.gateways.minor_units import smallest_unit
from services.payments.gateways.payout_protocol import (
    BalanceLine,
    LineKind,
    PayoutGateway,
    PayoutReport,
    PayoutStatus,
)
from services.payments.gateways.protocol import (
    ACCOUNT_CANNOT_CHARGE,
    CURRENCY_NOT_SUPPORTED,
    INSTALLATION_ACCOUNT,
    MESSAGES_FOR_STAFF,
    AccountNotAccessible,
    AccountReport,
    BrowserGateway,
    CardOutcome,
    CardReport,
    ChargeOrder,
    DisputeOutcome,
    DisputeReport,
    Failure,
    Gateway,
    GatewayAccount,
    GatewayRefused,
    GatewayUnavailable,
    OnlineGateway,
    PaymentOutcome,
    PaymentReport,
    PayoutNotice,
    RefundOrder,
    RefundOutcome,
    RefundReport,
    WebhookNotice,
    WebhookRefused,
    WebhookReport,
)

__all__ = [
    "ACCOUNT_CANNOT_CHARGE",
    "BY_HAND",
    "CURRENCY_NOT_SUPPORTED",
    "INSTALLATION_ACCOUNT",
    "MESSAGES_FOR_STAFF",
    "AccountLink",
    "AccountMode",
    "AccountNotAccessible",
    "AccountOrder",
    "AccountReport",
    "BalanceLine",
    "BrowserGateway",
    "CannotDisconnect",
    "CardOrder",
    "CardOutcome",
    "CardReport",
    "CardStorage",
    "ChargeOrder",
    "ConnectingGateway",
    "DisputeOutcome",
    "DisputeReport",
    "Failure",
    "Gateway",
    "GatewayAccount",
    "GatewayNotOpen",
    "GatewayRefused",
    "GatewayUnavailable",
    "Gateways",
    "LineKind",
    "OnlineGateway",
    "PaymentOutcome",
    "PaymentReport",
    "PayoutGateway",
    "PayoutNotice",
    "PayoutReport",
    "PayoutStatus",
    "RefundOrder",
    "RefundOutcome",
    "RefundReport",
    "WebhookNotice",
    "WebhookRefused",
    "WebhookReport",
    "handed_over",
    "require_known",
    "smallest_unit",
]


class AccountMode(StrEnum):
    """Which account at a gateway receives new payments."""

    INSTALLATION = "installation"  # one account for all organizations
    ORGANIZATION = "organization"  # a connected account of each organization


class GatewayNotOpen(GatewayUnavailable):
    """Earlier payments are with a gateway that this process has no configuration for."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not open: name it in PAYMENTS_FORMER_GATEWAYS")


class Gateways:
    """The gateways of this process, by name and by the payment methods they serve.

    `former` ones serve no method any more; what was paid through them is still with them.
    `accounts` decides which account new payments at a gateway are charged on.
    """

    def __init__(
        self,
        by_method: Mapping[str, Gateway],
        former: Iterable[Gateway] = (),
        *,
        accounts: AccountMode = AccountMode.INSTALLATION,
    ) -> None:
        self.accounts = accounts
        self._by_method = dict(by_method)
        self._by_name = {gateway.name: gateway for gateway in (*by_method.values(), *former)}
        # The check looks for every method of the protocol: too slow for each charge.
        self._online = {
            name: gateway
            for name, gateway in self._by_name.items()
            if isinstance(gateway, OnlineGateway)
        }

    @classmethod
    def open(
        cls,
        names: Mapping[str, str],
        former: Iterable[str] = (),
        *,
        accounts: AccountMode = AccountMode.INSTALLATION,
    ) -> "Gateways":
        """Open each gateway that a payment method is configured for, and the former ones."""
        by_name = {
            name: cast(Gateway, import_module(f"{__name__}.{require_known(name)}").open_gateway())
            for name in {*names.values(), *former}
        }
        by_method = {method: by_name[name] for method, name in names.items()}
        return cls(by_method, by_name.values(), accounts=accounts)

    @property
    def names(self) -> list[str]:
        """The name of every gateway that is open."""
        return list(self._by_name)

    def for_method(self, method: str) -> Gateway:
        """Return the gateway that takes this method of payment."""
        return self._by_method[method]

    def named(self, name: str) -> Gateway:
        """Return a gateway by the name that rows store; raises GatewayNotOpen."""
        gateway = self._by_name.get(name)
        if gateway is None:
            raise GatewayNotOpen(name)
        return gateway

    def online(self, name: str) -> OnlineGateway | None:
        """Return the gateway if it charges by itself, else None."""
        return self._online.get(name)

    def card_storage(self, name: str) -> CardStorage | None:
        """Return the storage of cards of a gateway, or None if it stores no cards."""
        return getattr(self._by_name.get(name), "cards", None)

    def connecting(self) -> list[ConnectingGateway]:
        """Return the gateways of methods of payment that can connect accounts."""
        gateways = dict.fromkeys(self._by_method.values())
        return [gateway for gateway in gateways if isinstance(gateway, ConnectingGateway)]

    def require_connections(self) -> None:
        """Raise ValueError if new payments would need accounts that no gateway can connect."""
        if self.accounts is AccountMode.INSTALLATION:
            return
        for method, gateway in self._by_method.items():
            if isinstance(gateway, ConnectingGateway):
                gateway.require_connections()
            elif gateway.name in self._online:
                raise ValueError(
                    f"PAYMENTS_ACCOUNTS: organization needs a gateway that connects accounts, and "
                    f"{gateway.name}, the gateway of {method}, does not"
                )

    def all_online(self) -> list[OnlineGateway]:
        """Return every gateway that charges by itself."""
        return list(self._online.values())

    def all_with_payouts(self) -> list[PayoutGateway]:
        """Return every gateway that pays out to connected accounts."""
        return [each for each in self._online.values() if isinstance(each, PayoutGateway)]

    async def aclose(self) -> None:
        """Close every gateway's connections."""
        for gateway in self._by_name.values():
            await gateway.aclose()


def require_known(name: str) -> str:
    """Return the name of a gateway; raises ValueError when this package has none of that name."""
    if not name.isidentifier() or find_spec(f"{__name__}.{name}") is None:
        raise ValueError(f"{name!r} is not the name of a payment gateway")
    return name
