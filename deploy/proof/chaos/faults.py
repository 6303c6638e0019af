"""What goes wrong, one method each: it begins, it lasts its seconds, it is over."""

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
MADE_AGAIN_SECONDS = 60.0
"""Its consumers may have been killed meanwhile, and a started process takes its time under load."""
_WATERMARK = ("set_vm_memory_high_watermark",)
CARD_GATEWAY = "card-gateway"

Fault = Callable[[], Awaitable[None]]


class FaultMissed(Exception):
    """A fault could not be brought about just now."""


class Faults:
    """Brings faults about, with dice that a seed has given, and counts them."""

    def __init__(self, platform: Platform, traffic: Traffic, dice: random.Random) -> None:
        self.counts: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self._platform = platform
        self._stack = platform.stack
        self._traffic = traffic
        self._dice = dice
        self._processes = [instance.name for instance in platform.stack.system.instances]

    def kinds(self) -> dict[str, tuple[Fault, int]]:
        """Return every kind of fault but the fail points, with its weight."""
        return {
            "process killed": (self._kill, 8),
            "process frozen": (self._freeze, 4),
            "commit's answer cut off": (self._cut_commits, 4),
            "database connections cut": (lambda: self._cut(self._platform.database), 2),
            "broker connections cut": (lambda: self._cut(self._platform.broker), 2),
            "network to database drops": (lambda: self._drop(self._platform.database), 2),
            "network to broker drops": (lambda: self._drop(self._platform.broker), 2),
            "second host cut off": (self._cut_off, 3),
            "database killed": (self._kill_database, 1),
            "broker killed": (self._kill_broker, 1),
            "broker frozen": (lambda: self._pause("rabbitmq", 2, 6), 1),
            "broker's memory alarm": (self._alarm, 1),
            "card gateway frozen": (lambda: self._pause(CARD_GATEWAY, 1, 4), 1),
            "queue deleted": (self._delete_a_queue, 1),
            "binding deleted": (self._delete_a_binding, 1),
        }

    async def bring_about(self, kind: str) -> None:
        """Bring a kind of fault about and wait until it is over."""
        fault, _ = self.kinds()[kind]
        try:
            await fault()
        except (FaultMissed, OSError, asyncpg.PostgresError, aio_pika.exceptions.AMQPError):
            self.missed[kind] += 1
        else:
            self.counts[kind] += 1

    async def kill_at(self, point: str) -> bool:
        """Kill the next process that passes a fail point; False when none does in time."""
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

    async def _kill(self) -> None:
        self._stack.kill(self._dice.choice(self._processes))

    async def _freeze(self) -> None:
        await self._pause(self._dice.choice(self._processes), 0.5, 4)

    async def _pause(self, name: str, least: float, most: float) -> None:
        self._stack.kill(name, signal.SIGSTOP)
        try:
            await asyncio.sleep(self._dice.uniform(least, most))
        finally:
            self._stack.kill(name, signal.SIGCONT)

    async def _cut_commits(self) -> None:
        database = self._platform.database
        wanted = self._dice.randint(1, 4)
        before = database.commits_cut
        database.cut_commits(wanted)
        until = time.monotonic() + 3
        while database.commits_cut - before < wanted and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        database.cut_commits(0)

    async def _cut(self, proxy: Proxy) -> None:
        proxy.cut()

    async def _drop(self, proxy: Proxy) -> None:
        with proxy.frozen():
            await asyncio.sleep(self._dice.uniform(1, 5))

    async def _cut_off(self) -> None:
        """Pull the second host's cable out; without such a host, the servers' of everybody."""
        seconds = self._dice.uniform(2, 10)
        network, proxies = self._platform.network, (self._platform.database, self._platform.broker)
        if network is None:
            with proxies[0].frozen(), proxies[1].frozen():
                await asyncio.sleep(seconds)
        else:
            async with network.unplugged():
                await asyncio.sleep(seconds)

    async def _kill_database(self) -> None:
        """Stop it as `pg_ctl -m immediate` does: no checkpoint, no goodbye, then recovery."""
        await self._end_and_wait("postgres", signal.SIGQUIT, self._database_answers)

    async def _kill_broker(self) -> None:
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

    async def _alarm(self) -> None:
        """Make the broker believe that it has no memory left: it takes nothing from anybody."""
        broker, supervisor = self._stack.rabbitmq, self._stack.supervisor
        if broker is None:
            raise FaultMissed
        try:
            if await broker.control(supervisor, *_WATERMARK, "absolute", "1MB"):
                raise FaultMissed
            await asyncio.sleep(self._dice.uniform(2, 5))
        finally:
            await reset_watermark(self._platform)

    async def _delete_a_queue(self) -> None:
        """Delete a queue when it is empty: what a deleted queue holds is lost with any broker."""
        chosen = self._dice.choice(consumed_queues())
        async with self._quiet():
            async with self._platform.channel() as channel:
                await channel.queue_delete(chosen.name, if_unused=False, if_empty=False)
            await self._bound_again(chosen)

    async def _delete_a_binding(self) -> None:
        """Delete a binding; its consumer makes it again within seconds."""
        chosen = self._dice.choice(consumed_queues())
        async with self._quiet():
            async with self._platform.channel() as channel:
                queue = await channel.get_queue(chosen.name, ensure=False)
                await queue.unbind(EXCHANGE, chosen.bindings[0])
            await self._bound_again(chosen)

    async def _bound_again(self, queue: Queue) -> None:
        """Wait until a queue is there with all of its bindings. Raises FaultMissed."""

        async def bound() -> bool:
            return await self._platform.bindings_of(queue) >= set(queue.bindings)

        await _eventually(bound, seconds=MADE_AGAIN_SECONDS)

    @asynccontextmanager
    async def _quiet(self) -> AsyncIterator[None]:
        """Hold everybody back, timers too, while nothing is under way in outboxes and queues.

        Raises FaultMissed.
        """
        until = time.monotonic() + QUIET_SECONDS
        async with self._traffic.held(seconds=QUIET_SECONDS):
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
    """Wait until `check` answers true. Raises FaultMissed."""
    until = time.monotonic() + seconds
    while not await check():
        if time.monotonic() > until:
            raise FaultMissed
        await asyncio.sleep(0.2)


async def reset_watermark(platform: Platform) -> None:
    """Let the broker have memory again."""
    stack = platform.stack
    if stack.rabbitmq is not None:
        await stack.rabbitmq.control(stack.supervisor, *_WATERMARK, "0.4")
