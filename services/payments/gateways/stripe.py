"""Cards, by Stripe's API: payment intents, refunds, signed webhooks.

In development and tests the same code talks to a card gateway of our own (docs/card-gateway.md).
Nothing here relies on idempotency keys alone, because Stripe forgets them after a day. Amounts on
the wire are minor units, currencies lower case.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import stripe
from pydantic import SecretStr
from stripe import StripeClient, StripeError, WebhookSignature
from stripe.params import RefundCreateParams

from services.payments.gateways import stripe_objects
from services.payments.gateways.minor_units import NotInMinorUnits, to_minor
from services.payments.gateways.protocol import (
    ChargeOrder,
    Failure,
    GatewayAccount,
    GatewayRefused,
    PaymentReport,
    RefundOrder,
    RefundReport,
    WebhookNotice,
    WebhookRefused,
    WebhookReport,
)
from services.payments.gateways.stripe_accounts import StripeAccounts, StripeSettings
from services.payments.gateways.stripe_cards import CARD_EVENTS, StripeCards, report_of_setup
from services.payments.gateways.stripe_errors import (
    raised,
    raised_by_preparation,
    require_refusal,
    unavailable,
)
from services.payments.gateways.stripe_http import StripeForms, StripeHttp, options_of
from services.payments.gateways.stripe_payouts import StripePayouts
from shared.settings import load_settings

__all__ = ["API_VERSION", "StripeGateway", "StripeSettings", "open_gateway"]

# By default the library writes an id into the home folder and sends figures about this machine.
stripe.enable_telemetry = False

API_VERSION = "2026-07-29.dahlia"
"""The last release in which an intent can be limited to cards by `payment_method_types`:
https://docs.stripe.com/changelog/endive/2026-09-30 takes that parameter away.
"""

UNKNOWN = Failure("payment_unknown", "The payment gateway does not know this payment.")

WEBHOOK_WINDOW = timedelta(minutes=5)
SIGNATURE_HEADER = "stripe-signature"
PAGE = 100


class StripeGateway(StripeAccounts, StripePayouts):
    """Stripe, or a server with the same API at `api_base`."""

    name = "stripe"

    def __init__(
        self, settings: StripeSettings, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        key = settings.api_key.get_secret_value()
        self._secret = settings.webhook_secret
        self._connect_secret = settings.connect_webhook_secret
        self._http = StripeHttp(transport)
        base = settings.api_base.rstrip("/")
        # The library must not retry: it would repeat a refund where idempotency keys are unknown.
        client = StripeClient(
            key,
            base_addresses={"api": base},
            http_client=self._http,
            stripe_version=API_VERSION,
            max_network_retries=0,
        )
        forms = StripeForms(self._http.transport, base, key, API_VERSION)
        connect_base = settings.connect_base
        connect_forms = StripeForms(self._http.transport, connect_base, key, API_VERSION)
        super().__init__(settings, client, forms, connect_forms)
        self.cards = StripeCards(client, forms, self._payment_method)

    async def prepare(self, order: ChargeOrder, token: SecretStr) -> PaymentReport:
        """Create an unconfirmed payment intent; raises GatewayUnavailable and GatewayRefused."""
        try:
            amount, fee = (to_minor(part, order.currency) for part in (order.amount, order.fee))
            method = await self._payment_method(order.account, token.get_secret_value())
            key = f"carnet-charge-{order.reference}-{method}"
            intent = await self._forms.post(
                "/v1/payment_intents",
                _intent(order, amount, fee, method),
                account=order.account.id,
                # With another fee, which may have changed since, a key would be refused.
                idempotency_key=f"{key}-{fee}" if fee else key,
            )
        except NotInMinorUnits as error:
            raise GatewayRefused(Failure("amount_invalid", str(error))) from error
        except StripeError as error:
            raise raised_by_preparation(error, order.account.id, order.currency) from error
        return stripe_objects.report_of_intent(intent, order.account.id)

    async def _payment_method(self, account: GatewayAccount, token: str) -> str:
        """Return the payment method itself, or the one that a card token of Stripe.js becomes."""
        if not token.startswith("tok_"):
            return token
        # A token can be used once: a repeated call must return the same method.
        digest = hashlib.sha256(token.encode()).hexdigest()
        card = await self._stripe.v1.payment_methods.create_async(
            {"type": "card", "card": {"token": token}},
            options_of(account, f"carnet-method-{digest}"),
        )
        return card.id

    async def confirm(self, account: GatewayAccount, gateway_id: str) -> PaymentReport:
        """Confirm an intent, or report what became of it; raises GatewayUnavailable."""
        try:
            intent = await self._forms.post(
                f"/v1/payment_intents/{quote(gateway_id, safe='')}/confirm", {}, account=account.id
            )
        except StripeError as error:
            require_refusal(error)
            # Declined, or confirmed before: the intent itself has the reason.
            return await self.look_up(account, gateway_id)
        return stripe_objects.report_of_intent(intent, account.id)

    async def look_up(self, account: GatewayAccount, gateway_id: str) -> PaymentReport:
        """Read an intent; raises GatewayUnavailable."""
        try:
            intent = await self._stripe.v1.payment_intents.retrieve_async(
                gateway_id, options=options_of(account)
            )
        except StripeError as error:
            raise unavailable(error) from error
        return stripe_objects.report_of_intent(intent.to_dict(), account.id)

    async def cancel(self, account: GatewayAccount, gateway_id: str) -> PaymentReport:
        """Cancel an intent, or report why it cannot be any more; raises GatewayUnavailable."""
        try:
            intent = await self._stripe.v1.payment_intents.cancel_async(
                gateway_id, options=options_of(account)
            )
        except StripeError as error:
            require_refusal(error)
            return await self.look_up(account, gateway_id)
        return stripe_objects.report_of_intent(intent.to_dict(), account.id)

    async def refund(self, gateway_id: str | None, order: RefundOrder) -> RefundReport:
        """Refund a part of an intent; raises GatewayUnavailable and GatewayRefused."""
        if gateway_id is None:
            raise GatewayRefused(Failure("nothing_captured", "the gateway never had this payment"))
        form: RefundCreateParams = {
            "payment_intent": gateway_id,
            "amount": to_minor(order.amount, order.currency),
            "metadata": {"refund_id": str(order.refund_id)},
        }
        if order.returns_fee:
            form["refund_application_fee"] = True
        try:
            refund = await self._stripe.v1.refunds.create_async(
                form, options_of(order.account, f"carnet-refund-{order.refund_id}")
            )
        except StripeError as error:
            raise raised(error) from error
        return stripe_objects.report_of_refund(refund.to_dict(), order.account.id)

    async def refunds_of(self, account: GatewayAccount, gateway_id: str) -> list[RefundReport]:
        """List every refund of an intent; raises GatewayUnavailable and GatewayRefused."""
        try:
            page = await self._stripe.v1.refunds.list_async(
                {"payment_intent": gateway_id, "limit": PAGE}, options_of(account)
            )
            refunds = [refund.to_dict() async for refund in page.auto_paging_iter()]
        except StripeError as error:
            # A 404 of a proxy is not Stripe's answer.
            if isinstance(error, stripe.InvalidRequestError) and error.http_status == 404:
                raise GatewayRefused(UNKNOWN) from error
            raise unavailable(error) from error
        return [stripe_objects.report_of_refund(refund, account.id) for refund in refunds]

    async def refunds_since(
        self, account: GatewayAccount, instant: datetime
    ) -> AsyncIterator[RefundReport]:
        """Yield refunds, newest first, until they are older; raises GatewayUnavailable."""
        try:
            page = await self._stripe.v1.refunds.list_async({"limit": PAGE}, options_of(account))
            async for refund in page.auto_paging_iter():
                if refund.created < instant.timestamp():
                    return
                yield stripe_objects.report_of_refund(refund.to_dict(), account.id)
        except StripeError as error:
            raise unavailable(error) from error

    async def events_since(
        self, account: GatewayAccount, instant: datetime
    ) -> AsyncIterator[tuple[WebhookNotice, bytes]]:
        """Yield Stripe's own list of an account's events; raises GatewayUnavailable."""
        try:
            page = await self._stripe.v1.events.list_async(
                {"limit": PAGE, "created": {"gte": int(instant.timestamp())}},
                options_of(account),
            )
            async for event in page.auto_paging_iter():
                signed_at = datetime.fromtimestamp(event.created, UTC)
                # Only the event of a webhook names the account.
                body = json.dumps({**event.to_dict(), "account": account.id}).encode()
                yield WebhookNotice(event.id, event.type, signed_at, account.id), body
        except StripeError as error:
            raise unavailable(error) from error

    def verify(
        self, body: bytes, headers: Mapping[str, str], moment: datetime, *, connected: bool = False
    ) -> WebhookNotice:
        """Check signature and age (Stripe's scheme v1); raises WebhookRefused.

        https://docs.stripe.com/webhooks#verify-manually. The library refuses what is too old and
        accepts any future; a clock that runs ahead of ours is no better than one that is late.
        """
        header = headers.get(SIGNATURE_HEADER, "")
        secret = self._connect_secret if connected else self._secret
        if secret is None:
            raise WebhookRefused("PAYMENTS_STRIPE_CONNECT_WEBHOOK_SECRET is not set")
        try:
            WebhookSignature.verify_header(body, header, secret.get_secret_value(), tolerance=None)
        except (StripeError, ValueError, TypeError) as error:
            raise WebhookRefused("the signature is not the gateway's") from error
        signed_at = stripe_objects.signed_at(header)
        if abs(moment - signed_at) > WEBHOOK_WINDOW:
            raise WebhookRefused("the signature is not of this hour")
        event = stripe_objects.event_of(body)
        account = stripe_objects.account_of(event)
        return WebhookNotice(event["id"], event["type"], signed_at, account)

    def read(self, body: bytes) -> WebhookReport | None:
        """Return what an event reports, or None; raises WebhookRefused."""
        event = stripe_objects.event_of(body)
        if event["type"] in CARD_EVENTS:
            return report_of_setup(event["data"]["object"], stripe_objects.account_of(event))
        return stripe_objects.report_of_event(event)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.close_async()


def _intent(order: ChargeOrder, amount: int, fee: int, method: str) -> dict[str, str]:
    """Return the form of an intent for cards alone: others would need an address to return to."""
    form = {
        "amount": str(amount),
        "currency": order.currency.lower(),
        "payment_method": method,
        "payment_method_types[0]": "card",
        "metadata[voucher_id]": str(order.voucher_id),
        "metadata[organization_id]": str(order.organization_id),
        "metadata[description]": order.description[:500],
    }
    if fee:
        form["application_fee_amount"] = str(fee)
    if order.transaction_id is not None:
        form["metadata[transaction_id]"] = str(order.transaction_id)
    return form


def open_gateway() -> StripeGateway:
    """Return the gateway, as its environment describes it."""
    return StripeGateway(load_settings(StripeSettings))
