"""The internals of libraries that our code uses, by name: an upgrade without them fails here.

An error message of this file means: read how the library does it now, change the named function of
`shared`, then the bound in `pyproject.toml`.
"""

import ast
import asyncio
import inspect
import textwrap
from collections.abc import Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from importlib.metadata import requires
from typing import Any

import aiormq
import asyncpg
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.abc import ChannelFrame
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi as Driver
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from shared import bus, connections, consumer, db, reads
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

AIORMQ_CHANNEL: dict[str, type[Any]] = {
    "lock": AbstractAsyncContextManager,
    "delivery_tag": int,
    "create_future": Callable,  # type: ignore[dict-item]
    "confirmations": MutableMapping,
    "message_id_delivery_tag": MutableMapping,
    "max_content_size": int,
    "write_queue": asyncio.Queue,
    "number": int,
}
"""What `shared.bus.publish_all` and `_write` use of aiormq's channel."""

BOUNDED = ("aio-pika", "aiormq", "asyncpg", "pamqp")


def attributes_of(function: Callable[..., Any], variable: str) -> set[str]:
    """Return the attributes that a function's source uses of one of its variables."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == variable
    }


async def test_aiormq_has_the_internals_that_batches_are_written_with(
    channel: AbstractChannel,
) -> None:
    writer = await channel.get_underlay_channel()
    assert isinstance(writer, aiormq.Channel), "bus.publish_all: get_underlay_channel() differs"
    for name, kind in AIORMQ_CHANNEL.items():
        value = getattr(writer, name, None)
        assert isinstance(value, kind), (
            f"aiormq.Channel.{name} is not a {kind.__name__} any more: shared.bus.publish_all uses"
            " it. Compare with Channel.basic_publish of the new version"
        )


async def test_aiormq_registers_confirmations_as_batches_do(channel: AbstractChannel) -> None:
    source = inspect.getsource(aiormq.Channel.basic_publish)
    for name in AIORMQ_CHANNEL.keys() - {"max_content_size", "number"}:
        assert f"self.{name}" in source, (
            f"aiormq's basic_publish does not use Channel.{name} any more: shared.bus.publish_all"
            " does what it does, for a batch"
        )


def test_the_named_internals_are_those_that_our_code_uses() -> None:
    names = attributes_of(bus.publish_all, "writer") | attributes_of(bus._write, "writer")
    assert names == AIORMQ_CHANNEL.keys()


def test_aiormq_marshals_the_frames_of_a_batch() -> None:
    source = inspect.getsource(ChannelFrame.marshall)
    assert "pamqp.frame.marshal(frame, channel_number)" in source, (
        "aiormq.abc.ChannelFrame.marshall does not use pamqp's marshal any more: shared.bus does"
        " what it does, with the frames that are the same for every message made once"
    )
    parameters = inspect.signature(ChannelFrame).parameters
    required = [
        name for name, each in parameters.items() if each.default is inspect.Parameter.empty
    ]
    assert required == ["payload", "should_close"], (
        "aiormq.abc.ChannelFrame takes other parameters: shared.bus._write creates it"
    )


def test_aiormq_consumes_below_aio_pika() -> None:
    assert "basic_consume" in inspect.getsource(consumer.Consumer)
    parameters = list(inspect.signature(aiormq.Channel.basic_consume).parameters)
    assert parameters[:3] == ["self", "queue", "consumer_callback"], (
        "aiormq.Channel.basic_consume takes other parameters: shared.consumer.Consumer calls it"
    )


async def test_asyncpg_has_the_transport_whose_socket_gets_options(
    transactions: Transactions,
) -> None:
    assert "driver_connection._transport" in inspect.getsource(db)
    async with transactions.engine.connect() as connection:
        raw = await connection.get_raw_connection()
        transport = getattr(raw.driver_connection, "_transport", None)
        assert isinstance(transport, asyncio.Transport), (
            "asyncpg's Connection has no `_transport` any more: shared.db sets the options of its"
            " socket, so that statements do not wait for a server that vanished"
        )
        assert transport.get_extra_info("socket") is not None


async def test_sqlalchemy_has_the_adapter_whose_transaction_is_begun_below_it(
    transactions: Transactions,
) -> None:
    async with transactions.engine.connect() as connection:
        adapter = (await connection.get_raw_connection()).dbapi_connection
        for name in ("_start_transaction", "_handle_exception"):
            assert f"adapter.{name}" in inspect.getsource(connections)
            assert callable(getattr(adapter, name, None)), (
                f"SQLAlchemy's connection of asyncpg has no `{name}` any more: shared.connections"
                " begins its transactions and translates its errors with it"
            )


async def test_sqlalchemy_lends_the_connection_on_which_statements_are_read(
    transactions: Transactions,
) -> None:
    assert attributes_of(reads.Reader.fetch, "connection") == {
        "driver_connection",
        "dbapi_connection",
        "invalidate",
        "close",
    }
    pooled = await transactions.engine.raw_connection()
    assert isinstance(pooled, PoolProxiedConnection), (
        "AsyncEngine.raw_connection returns no connection of the pool any more:"
        " shared.reads.Reader reads with it"
    )
    assert isinstance(pooled.driver_connection, asyncpg.Connection), (
        "SQLAlchemy's pooled connection has no asyncpg connection any more: shared.reads.Reader"
        " executes statements with it"
    )
    # Closing it waits for the network, which SQLAlchemy's pool does in a greenlet only.
    await greenlet_spawn(pooled.close)
    assert pooled.dbapi_connection is None, "the pool did not take the connection back"


async def test_sqlalchemy_translates_the_errors_of_its_driver(transactions: Transactions) -> None:
    adapter_names = attributes_of(connections.translated, "adapter")
    assert adapter_names == {"_handle_exception", "dbapi", "driver_connection"}
    pooled = await transactions.engine.raw_connection()
    try:
        adapter: Any = pooled.dbapi_connection
        assert adapter.dbapi.Error is Driver.Error
        refusal = asyncpg.PostgresError("refused")
        with pytest.raises(Driver.Error) as caught:
            adapter._handle_exception(refusal)
        error = DBAPIError.instance("SELECT", None, caught.value, Driver.Error)
        assert isinstance(error, DBAPIError), (
            "DBAPIError.instance makes no DBAPIError of the driver's error any more:"
            " shared.connections raises it as a session would"
        )
        with pytest.raises(ValueError, match="ours"):
            adapter._handle_exception(ValueError("ours"))
    finally:
        await greenlet_spawn(pooled.close)


def test_versions_with_internals_that_we_use_have_an_upper_bound() -> None:
    requirements = {line.partition(";")[0] for line in requires("carnet") or ()}
    for name in BOUNDED:
        [requirement] = [line for line in requirements if line.startswith((f"{name}<", f"{name}>"))]
        assert "<" in requirement, f"pyproject.toml: {name} needs an upper bound"
