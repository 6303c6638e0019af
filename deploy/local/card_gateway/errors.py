"""Errors in the form of https://docs.stripe.com/api/errors."""

from typing import Any

INVALID_REQUEST = "invalid_request_error"


class StripeError(Exception):
    """A refused request. With `is_recorded` the changes that were made before it are stored.

    `details` are further fields of the error, as the payment intent that it concerns.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID_REQUEST,
        code: str | None = None,
        param: str | None = None,
        is_recorded: bool = False,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.is_recorded = is_recorded
        self._fields = {"type": kind, "message": message, "code": code, "param": param, **details}

    def body(self) -> dict[str, Any]:
        """Return the body of the response."""
        fields = {name: value for name, value in self._fields.items() if value is not None}
        if self.code:
            fields["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        return {"error": fields}


def invalid(message: str, param: str | None = None, code: str | None = None) -> StripeError:
    """Return the error of a request with a wrong parameter."""
    return StripeError(400, message, code=code, param=param)


def missing_resource(kind: str, identifier: str, param: str | None = None) -> StripeError:
    """Return the error of an unknown id.

    404 for one of the path and for the payment of a refund, 400 for one of another parameter.
    """
    is_subject = param is None or kind in ("charge", "payment_intent")
    noun = "PaymentMethod" if kind == "payment_method" else kind
    message = f"No such {noun}: '{identifier}'"
    return StripeError(
        404 if is_subject else 400, message, code="resource_missing", param=param or "id"
    )


def not_implemented(what: str) -> StripeError:
    """Return the error of something that Stripe may do and this server does not."""
    message = f"The local card gateway does not support {what}. Stripe itself may support it."
    return StripeError(501, message, kind="api_error")


def unexpected_state(message: str, **details: Any) -> StripeError:
    """Return the error of an action that the status of an intent does not allow."""
    kind = next(iter(details), "payment_intent")
    return StripeError(400, message, code=f"{kind}_unexpected_state", **details)
