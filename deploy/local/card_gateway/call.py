"""One request as its handler sees it: the books of one account, and how they are changed."""

import secrets
import string
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from deploy.local.card_gateway.errors import invalid, missing_resource
from deploy.local.card_gateway.store import PageQuery, Resource, Store

PLATFORM = "acct_LocalPlatform"
APPLICATION = "ca_LocalPlatform"
DEAUTHORIZED = "account.application.deauthorized"
# Letters alone: digits by chance would look like the number of a card.
_LETTERS = string.ascii_letters
_ID_LENGTH = 24


def new_id(prefix: str) -> str:
    """Return an id that no object has."""
    return f"{prefix}_{''.join(secrets.choice(_LETTERS) for _ in range(_ID_LENGTH))}"


@dataclass(frozen=True)
class Call:
    """A request on the books of the account `book`, at the time `now` (seconds since 1970).

    `base_url` is where the client has reached this server. `is_publishable` is true for a request
    with a publishable key, as a browser sends it.
    """

    store: Store
    book: str
    now: int
    base_url: str
    api_version: str
    request_id: str | None = None
    idempotency_key: str | None = None
    is_publishable: bool = False
    webhook_delay: float = 0.0

    @property
    def is_platform(self) -> bool:
        """Whether these are the platform's own books."""
        return self.book == PLATFORM

    def for_account(self, book: str) -> "Call":
        """Return the same call on the books of another account."""
        return replace(self, book=book)

    def create(self, prefix: str, kind: str, fields: Mapping[str, Any]) -> Resource:
        """Store a new object."""
        resource: Resource = {
            "id": new_id(prefix),
            "object": kind,
            "created": self.now,
            "livemode": False,
            **fields,
        }
        self.store.insert(self.book, resource)
        return resource

    def save(self, resource: Resource, **changes: Any) -> Resource:
        """Change an object and store it."""
        resource.update(changes)
        self.store.update(resource)
        return resource

    def find(self, kind: str, identifier: object) -> Resource | None:
        """Return an object of these books."""
        return self.store.find(self.book, kind, str(identifier))

    def get(self, kind: str, identifier: str, param: str | None = None) -> Resource:
        """Return an object of these books; raises StripeError if there is none.

        `param` is the parameter that has the id; without it the id is a part of the path.
        """
        resource = self.find(kind, identifier)
        if resource is None:
            raise missing_resource(kind, identifier, param)
        return resource

    def page(self, kind: str, url: str, query: PageQuery, **filters: object) -> Resource:
        """Return a page of the objects of a kind; raises StripeError for an unknown cursor."""
        for name in ("starting_after", "ending_before"):
            cursor = getattr(query, name)
            if cursor and self.find(kind, cursor) is None:
                raise invalid(f"No such {kind}: '{cursor}'", name, "resource_missing")
        if query.starting_after and query.ending_before:
            raise invalid("You can pass only one of starting_after and ending_before.")
        page, has_more = self.store.page_of(self.book, kind, query, filters)
        return {"object": "list", "url": url, "has_more": has_more, "data": page}

    def emit(self, kind: str, resource: Resource, before: Mapping[str, Any] | None = None) -> None:
        """Store an event about an object, and plan its delivery to the webhook endpoints.

        `before` has the previous values of what has changed.
        """
        data: dict[str, Any] = {"object": public(resource)}
        if before is not None:
            data["previous_attributes"] = dict(before)
        account = {} if self.is_platform else {"account": self.book}
        event = self.create(
            "evt",
            "event",
            {
                "type": kind,
                "api_version": self.api_version,
                "data": data,
                "request": {"id": self.request_id, "idempotency_key": self.idempotency_key},
                **account,
            },
        )
        for endpoint in self._endpoints(kind):
            self.store.connection.execute(
                "INSERT INTO deliveries (event, endpoint, due) VALUES (?, ?, ?)",
                (event["id"], endpoint["id"], time.time() + self.webhook_delay),
            )

    def _endpoints(self, kind: str) -> list[Resource]:
        """Return the endpoints of an event: a revoked account reports its revocation alone."""
        if not self.is_platform and kind != DEAUTHORIZED:
            account = self.store.find(PLATFORM, "account", self.book)
            if account is None or account["_is_deauthorized"]:
                return []
        return [
            endpoint
            for endpoint in self.store.rows_of(PLATFORM, "webhook_endpoint", status="enabled")
            if endpoint["_connect"] is not self.is_platform
            and {kind, "*"} & set(endpoint["enabled_events"])
        ]


def public(value: Any) -> Any:
    """Return what a response or an event contains of an object: no private field."""
    if isinstance(value, dict):
        return {name: public(each) for name, each in value.items() if not name.startswith("_")}
    if isinstance(value, list):
        return [public(each) for each in value]
    return value
