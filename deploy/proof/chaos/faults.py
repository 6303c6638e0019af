"""The faults, one method each. A method returns when its fault is over."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aio_pika.exceptions
import asyncpg

from deploy.proof.chaos.client import Traffic
from deploy.proof.chaos.platform import Platform, consumed_queues, untaken_events
from deploy.proof.chaos.proxy import Proxy
from shared.bus import EXCHANGE, Queue
from shared.failpoints import order_for

QUIET_SECONDS = 15.0
ORDER_SECONDS = 6.0
DECLARED_AGAIN_SECONDS = 60.0
"""The consumers may have been killed, and processes start slowly under load."""
_WATERMARK = ("set_vm_memory_high_watermark",)
CARD_GATEWAY = "card-gateway"

Fault = Callable[[], Awaitable[None]]


class FaultMissed(Exception):
    """A fault is not possible at the moment."""


class Faults:
    """Causes faults, with random values from a seed, and counts them."""

    def __init__(self, platform: Platform, traffic: Traffic, dice: random.Random) -> None:
        self.counts: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self._platform = platform
        self._stack = platform.stack
        self._traffic = traffic
        self._dice = dice
        self._processes = [instance.name for instance in platform.stack.system.instances]

    def kinds(self) -> dict[str, tuple[Fault, int]]:
        """Return every kind of fault except fail points, with its weight."""
        return {
            "process killed": (self.kill, 8),
            "process frozen": (self.freeze, 4),
            "commit's answer cut off": (self.cut_commits, 4),
            "database connections cut": (lambda: self.cut(self._platform.database), 2),
            "broker connections cut": (lambda: self.cut(self._platform.broker), 2),
            "network to database drops": (lambda: self.drop(self._platform.database), 2),
            "network to broker drops": (lambda: self.drop(self._platform.broker), 2),
            "second host cut off": (self.cut_off_second_host, 3),
            "database killed": (self.kill_database, 1),
            "broker killed": (self.kill_broker, 1),
            "broker frozen": (lambda: self.pause("rabbitmq", 2, 6), 1),
            "broker's memory alarm": (self.exhaust_broker_memory, 1),
            "card gateway frozen": (lambda: self.pause(CARD_GATEWAY, 1, 4), 1),
            "card gateway killed": (self.kill_card_gateway, 1),
            "queue deleted": (self.delete_queue, 1),
            "binding deleted": (self.delete_binding, 1),
        }

    async def cause(self, kind: str) -> None:
        """Cause a kind of fault and wait until it is over."""
        fault, _ = self.kinds()[kind]
        try:
            await fault()
        except (FaultMissed, OSError, asyncpg.PostgresError, aio_pika.exceptions.AMQPError):
            self.missed[kind] += 1
        else:
            self.counts[kind] += 1

    async def kill_at(self, point: str) -> bool:
        """Kill the next process that passes a fail point; return False if none does in time."""
        order = order_for(self._platform.points, point)
        order.touch()
        until = time.monotonic() + ORDER_SECONDS
        while order.exists():
            if time.monotonic() > until:
                order.unlink(missing_ok=True)
                return False
            await asyncio.sleep(0.05)
        self.counts["killed at a fail point"] += 1
        return True

    async def kill(self) -> None:
        """Kill a process."""
        self._stack.kill(self._dice.choice(self._processes))

    async def kill_card_gateway(self) -> None:
        """Kill the card gateway, whose books survive, and wait until it is started again."""
        starts = self._stack.starts(CARD_GATEWAY)
        self._stack.kill(CARD_GATEWAY)
        await self._stack.wait_for_start(CARD_GATEWAY, starts + 1)

    async def freeze(self) -> None:
        """Pause a process."""
        await self.pause(self._dice.choice(self._processes), 0.5, 4)

    async def pause(self, name: str, least: float, most: float) -> None:
        """Stop a process or server for between `least` and `most` seconds."""
        self._stack.kill(name, signal.SIGSTOP)
        try:
            await asyncio.sleep(self._dice.uniform(least, most))
        finally:
            self._stack.kill(name, signal.SIGCONT)

    async def cut_commits(self) -> None:
        """Cut the connections of some commits before their answers."""
        database = self._platform.database
        number = self._dice.randint(1, 4)
        before = database.commits_cut
        database.cut_commits(number)
        until = time.monotonic() + 3
        while database.commits_cut - before < number and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        database.cut_commits(0)

    async def cut(self, proxy: Proxy) -> None:
        """Close all connections of a proxy."""
        proxy.cut()

    async def drop(self, proxy: Proxy) -> None:
        """Let a proxy hold back all data, like a network that drops packets."""
        with proxy.frozen():
            await asyncio.sleep(self._dice.uniform(1, 5))

    async def cut_off_second_host(self) -> None:
        """Unplug the second host; without one, hold back all data of database and broker."""
        seconds = self._dice.uniform(2, 10)
        network, proxies = self._platform.network, (self._platform.database, self._platform.broker)
        if network is None:
            with proxies[0].frozen(), proxies[1].frozen():
                await asyncio.sleep(seconds)
        else:
            async with network.unplugged():
                await asyncio.sleep(seconds)

    async def kill_database(self) -> None:
        """Stop PostgreSQL like `pg_ctl -m immediate`: without a checkpoint, recovery follows."""
        await self._end_and_wait("postgres", signal.SIGQUIT, self._database_answers)

    async def kill_broker(self) -> None:
        """Kill RabbitMQ."""
        await self._end_and_wait("rabbitmq", signal.SIGKILL, self._broker_answers)

    async def _end_and_wait(
        self, name: str, number: signal.Signals, answers: Callable[[], Awaitable[bool]]
    ) -> None:
        starts = self._stack.starts(name)
        self._stack.kill(name, number)
        await self._stack.wait_for_start(name, starts + 1)
        await _eventually(answers, seconds=60)

    async def _database_answers(self) -> bool:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return bool(await self._platform.rows("SELECT 1"))
        return False

    async def _broker_answers(self) -> bool:
        with contextlib.suppress(OSError, TimeoutError, aio_pika.exceptions.AMQPError):
            async with self._platform.channel() as channel:
                for queue in consumed_queues():
                    await channel.declare_queue(queue.name, passive=True, timeout=5)
                return True
        return False

    async def exhaust_broker_memory(self) -> None:
        """Lower the broker's memory limit, so that it accepts no messages."""
        broker, supervisor = self._stack.rabbitmq, self._stack.supervisor
        if broker is None:
            raise FaultMissed
        try:
            if await broker.control(supervisor, *_WATERMARK, "absolute", "1MB"):
                raise FaultMissed
            await asyncio.sleep(self._dice.uniform(2, 5))
        finally:
            await reset_watermark(self._platform)

    async def delete_queue(self) -> None:
        """Delete an empty queue: messages of a deleted queue are lost with any broker."""
        deleted_queue = self._dice.choice(consumed_queues())
        async with self._quiet():
            async with self._platform.channel() as channel:
                await channel.queue_delete(deleted_queue.name, if_unused=False, if_empty=False)
            await self._wait_until_bound(deleted_queue)

    async def delete_binding(self) -> None:
        """Delete a binding; the consumer declares it again within seconds."""
        unbound_queue = self._dice.choice(consumed_queues())
        async with self._quiet():
            async with self._platform.channel() as channel:
                queue = await channel.get_queue(unbound_queue.name, ensure=False)
                await queue.unbind(EXCHANGE, unbound_queue.bindings[0])
            await self._wait_until_bound(unbound_queue)

    async def _wait_until_bound(self, queue: Queue) -> None:
        """Wait until a queue exists with all of its bindings. Raises FaultMissed."""

        async def bound() -> bool:
            return await self._platform.bindings_of(queue) >= set(queue.bindings)

        await _eventually(bound, seconds=DECLARED_AGAIN_SECONDS)

    @asynccontextmanager
    async def _quiet(self) -> AsyncIterator[None]:
        """Pause clients and timers while outboxes and queues are empty. Raises FaultMissed."""
        until = time.monotonic() + QUIET_SECONDS
        async with self._traffic.paused(seconds=QUIET_SECONDS):
            while time.monotonic() < until:
                await _eventually(self._is_quiet, seconds=QUIET_SECONDS)
                async with self._platform.outboxes_closed():
                    if await self._is_quiet():
                        yield
                        return
        raise FaultMissed

    async def _is_quiet(self) -> bool:
        with contextlib.suppress(OSError, asyncpg.PostgresError, aio_pika.exceptions.AMQPError):
            if await self._platform.is_at_rest():
                return not await untaken_events(self._platform.rows)
        return False


async def _eventually(check: Callable[[], Awaitable[bool]], *, seconds: float) -> None:
    """Wait until `check` returns True. Raises FaultMissed."""
    until = time.monotonic() + seconds
    while not await check():
        if time.monotonic() > until:
            raise FaultMissed
        await asyncio.sleep(0.2)


async def reset_watermark(platform: Platform) -> None:
    """Restore the broker's memory limit."""
    stack = platform.stack
    if stack.rabbitmq is not None:
        await stack.rabbitmq.control(stack.supervisor, *_WATERMARK, "0.4")
