"""The same sale in one process, as simple as possible: the program that Carnet is compared with.

It is one FastAPI application with one database, SQLAlchemy's ORM, and one transaction for a sale.
It verifies a token, charges the card inside the transaction, and stores the voucher with its codes,
the payment and the invoice. It publishes and audits nothing, ignores the Idempotency-Key, and loses
the money of a client if it ends during the request. The difference is the price of what Carnet does
in addition.

    python -m deploy.proof.bench.one_process --port 8500

The environment names the database (ONE_PROCESS_DATABASE_URL, with asyncpg's driver), the card
gateway (ONE_PROCESS_CARD_GATEWAY) and the secret of the tokens (ONE_PROCESS_SECRET).
"""

import argparse
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import httpx
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import BaseModel
from sqlalchemy import DateTime, ForeignKey, Numeric, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

CODES = 12
OFFER_ID = 1
ALGORITHM = "HS256"


class Base(DeclarativeBase):
    """The tables of this program."""


class Offer(Base):
    """What is for sale."""

    __tablename__ = "offers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    validity_days: Mapped[int]


class Voucher(Base):
    """A sold voucher."""

    __tablename__ = "vouchers"

    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(index=True)
    offer_id: Mapped[int] = mapped_column(ForeignKey("offers.id"))
    name: Mapped[str]
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    status: Mapped[str]
    valid_from: Mapped[date]
    valid_until: Mapped[date]
    codes: Mapped[list["Code"]] = relationship()
    payment: Mapped["Payment"] = relationship()


class Code(Base):
    """The code of one session."""

    __tablename__ = "codes"

    id: Mapped[int] = mapped_column(primary_key=True)
    voucher_id: Mapped[int] = mapped_column(ForeignKey("vouchers.id"), index=True)
    code: Mapped[str] = mapped_column(unique=True)


class Payment(Base):
    """The money of a voucher."""

    __tablename__ = "payments"

    id: Mapped[int] = mapped_column(primary_key=True)
    voucher_id: Mapped[int] = mapped_column(ForeignKey("vouchers.id"), index=True)
    amount: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    gateway_id: Mapped[str] = mapped_column(unique=True)
    paid_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Counter(Base):
    """The last invoice number."""

    __tablename__ = "counters"

    id: Mapped[int] = mapped_column(primary_key=True)
    last: Mapped[int]


class Invoice(Base):
    """The document of a payment."""

    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(primary_key=True)
    payment_id: Mapped[int] = mapped_column(ForeignKey("payments.id"), index=True)
    number: Mapped[str] = mapped_column(unique=True)


class PurchaseOrder(BaseModel):
    """The body of a purchase."""

    voucher_type_id: int
    payment_method: str
    payment_token: str


class SoldVoucher(BaseModel):
    """The response to a purchase."""

    id: int
    name: str
    status: str
    price: str
    valid_from: date
    valid_until: date
    codes: list[str]
    invoice_number: str

    @classmethod
    def of(cls, voucher: Voucher, invoice_number: str) -> "SoldVoucher":
        """Return the response for a voucher and its invoice."""
        return cls(
            id=voucher.id,
            name=voucher.name,
            status=voucher.status,
            price=str(voucher.price),
            valid_from=voucher.valid_from,
            valid_until=voucher.valid_until,
            codes=[code.code for code in voucher.codes],
            invoice_number=invoice_number,
        )


_bearer = HTTPBearer()


async def _client_id(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials, Depends(_bearer)]
) -> int:
    try:
        token = jwt.decode(credentials.credentials, request.app.state.key, algorithms=[ALGORITHM])
    except (JoseError, ValueError) as error:
        raise HTTPException(401) from error
    return int(token.claims["sub"])


async def _session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions.begin() as session:
        yield session


async def purchase(
    order: PurchaseOrder,
    request: Request,
    client_id: Annotated[int, Depends(_client_id)],
    session: Annotated[AsyncSession, Depends(_session, scope="function")],
) -> SoldVoucher:
    """Sell a voucher: charge the card, store everything, commit."""
    offer = await session.get_one(Offer, order.voucher_type_id)
    gateway_id = await _charge(request.app.state.cards, offer.price, order.payment_token)
    today = datetime.now(UTC).date()
    voucher = Voucher(
        client_id=client_id,
        offer_id=offer.id,
        name=offer.name,
        price=offer.price,
        status="active",
        valid_from=today,
        valid_until=today + timedelta(days=offer.validity_days),
        codes=[Code(code=secrets.token_hex(6).upper()) for _ in range(CODES)],
        payment=Payment(amount=offer.price, gateway_id=gateway_id, paid_at=datetime.now(UTC)),
    )
    session.add(voucher)
    await session.flush()
    # Every sale waits for this row, so it is locked as late as possible.
    counter = (await session.scalars(select(Counter).with_for_update())).one()
    counter.last += 1
    invoice = Invoice(payment_id=voucher.payment.id, number=f"ONE-{counter.last:06}")
    session.add(invoice)
    return SoldVoucher.of(voucher, invoice.number)


async def _charge(cards: httpx.AsyncClient, price: Decimal, payment_method: str) -> str:
    fields: dict[str, Any] = {
        "amount": int(price * 100),
        "currency": "eur",
        "payment_method": payment_method,
        "confirm": "true",
    }
    response = await cards.post("/v1/payment_intents", data=fields)
    response.raise_for_status()
    intent = response.json()
    if intent["status"] != "succeeded":
        raise HTTPException(402)
    return str(intent["id"])


def create_app(database_url: str, card_gateway: str, secret: str) -> FastAPI:
    """Return the application; its tables are created when it starts."""
    engine = create_async_engine(database_url, pool_size=16)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with app.state.sessions.begin() as session:
            await session.merge(Counter(id=1, last=0))
            await session.merge(
                Offer(id=OFFER_ID, name="Ten sessions", price=Decimal("399.99"), validity_days=180)
            )
        async with app.state.cards:
            yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    app.state.cards = httpx.AsyncClient(base_url=card_gateway)
    app.state.key = OctKey.import_key(secret)
    app.post("/api/vouchers/purchase", status_code=201)(purchase)
    app.get("/health/ready")(_ready)
    return app


async def _ready() -> dict[str, str]:
    return {"status": "ready"}


def sign_token(client_id: int, secret: str) -> str:
    """Return the token of a client."""
    return jwt.encode({"alg": ALGORITHM}, {"sub": str(client_id)}, OctKey.import_key(secret))


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description="Run the sale in one process.")
    parser.add_argument("--port", type=int, required=True)
    app = create_app(
        os.environ["ONE_PROCESS_DATABASE_URL"],
        os.environ["ONE_PROCESS_CARD_GATEWAY"],
        os.environ["ONE_PROCESS_SECRET"],
    )
    port = parser.parse_args().port
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", loop="uvloop")


if __name__ == "__main__":
    main()
