"""Bookings: free times among few and many reservations, changes of bookings, calendar feeds."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import cycle, islice
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from deploy.local.errors import StartError
from deploy.proof.bench.booking_rows import (
    BOOKINGS,
    FIRST_THERAPIST,
    THERAPISTS,
    fill_with_bookings,
)
from deploy.proof.bench.cores import cpu_seconds
from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.load import LoadRequest, load
from deploy.proof.bench.nginx import upstream
from deploy.proof.bench.programs import Programs, programs
from deploy.proof.bench.protocol import Aim, Figures, Measurement, Run
from deploy.proof.bench.vouchers_service import (
    CHARGED,
    CLIENT,
    ORGANIZATION,
    OWNER,
    VouchersService,
    running_service,
)

CONNECTIONS = 8
FEW = THERAPISTS * BOOKINGS
PER_ROUND = 40
"""How many bookings are made, moved and cancelled in a round, each with a voucher of its own."""
SERIES_PER_ROUND = 10
SERIES = 12
ONE_DAY = timedelta(days=1)
ZONE = ZoneInfo("Europe/Warsaw")


@dataclass(slots=True)
class BookedService:
    """A running vouchers service with vouchers of many clients, with which nothing is booked."""

    service: VouchersService
    voucher_ids: Iterator[int]
    """The vouchers in turn. A run cancels what it booked, so each can be booked with again."""

    def take(self, number: int) -> list[int]:
        """Return the next vouchers."""
        return list(islice(self.voucher_ids, number))


@asynccontextmanager
async def open_bookings(environment: BenchEnvironment) -> AsyncIterator[Mapping[str, Run]]:
    tools, many = programs(environment), environment.scale.vouchers
    async with AsyncExitStack() as stack:
        others = await stack.enter_async_context(upstream(environment, tools, CHARGED))
        few, large = [
            await stack.enter_async_context(_filled_service(environment, others, number))
            for number in (FEW, many)
        ]
        feed = await _feed_of_a_therapist(few.service)
        serve = partial(_serve, environment, tools)
        yield {
            "slots of a month among few": partial(serve, few, _slots(few, FIRST_THERAPIST)),
            "slots of a month among many": partial(serve, large, _slots(large, FIRST_THERAPIST)),
            "slots of ten therapists": partial(serve, few, _slots(few, None)),
            "book, move, cancel": partial(_change_bookings, few),
            "series of 12": partial(_book_series, few),
            "feed": partial(serve, few, feed),
            "feed, unchanged": partial(_serve_unchanged, environment, tools, few, feed),
        }


@asynccontextmanager
async def _filled_service(
    environment: BenchEnvironment, others: str, reservations: int
) -> AsyncIterator[BookedService]:
    name = f"bench_bookings_{reservations}"
    database = await environment.database("vouchers", name=name)
    environment.say(f"{reservations:,} reservations in {name}, created each day")
    await fill_with_bookings(database, reservations)
    async with database.admin() as admin:
        rows = await admin.fetch("SELECT id FROM vouchers WHERE client_id <> $1", CLIENT)
    async with running_service(
        environment, database, others, name=f"bookings-{reservations}"
    ) as service:
        yield BookedService(service, cycle(row["id"] for row in rows))


def _slots(booked: BookedService, therapist_id: int | None) -> LoadRequest:
    """Return the request of a client who looks at the free times of the next month."""
    service, today = booked.service, datetime.now(ZONE).date()
    first, last = today + ONE_DAY, today + 31 * ONE_DAY
    filter_ = "" if therapist_id is None else f"&therapist_id={therapist_id}"
    # The client with the lowest id has the first voucher.
    path = f"/api/vouchers/1/slots?from={first}&until={last}&limit=200{filter_}"
    headers = service.issuer.bearer(CLIENT, "client", ORGANIZATION)
    return LoadRequest(f"{service.url}{path}", headers=headers)


async def _serve(
    environment: BenchEnvironment, tools: Programs, booked: BookedService, request: LoadRequest
) -> Figures:
    service = booked.service
    return await load(environment, tools, request, connections=CONNECTIONS, pid=service.pid)


async def _serve_unchanged(
    environment: BenchEnvironment, tools: Programs, booked: BookedService, feed: LoadRequest
) -> Figures:
    """Serve a feed to clients that have it as it is now, after the changes of other runs."""
    known = LoadRequest(feed.url, headers={"If-None-Match": await _tag_of(feed)})
    return await _serve(environment, tools, booked, known)


async def _feed_of_a_therapist(service: VouchersService) -> LoadRequest:
    headers = service.issuer.bearer(FIRST_THERAPIST, "therapist", ORGANIZATION)
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(f"{service.url}/api/calendar-feeds", json={}, headers=headers)
        _require(answer)
        return LoadRequest(f"{service.url}{answer.json()['address']}")


async def _tag_of(feed: LoadRequest) -> str:
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.get(feed.url)
        _require(answer)
        return answer.headers["ETag"]


def _require(answer: httpx.Response) -> None:
    if not answer.is_success:
        raise StartError(f"{answer.url} answered {answer.status_code}.", answer.text)


async def _change_bookings(booked: BookedService) -> Figures:
    """Book free times, move each to another day, and cancel them; all by a manager of bookings."""
    vouchers = booked.take(PER_ROUND)
    figures: dict[str, float] = {}
    async with _manager(booked.service) as client:
        choices = [_free_time(number, 16) for number in range(PER_ROUND)]
        bookings = [
            partial(_book, client, voucher_id, choice)
            for voucher_id, choice in zip(vouchers, choices, strict=True)
        ]
        reservations = await _timed(booked.service, figures, "book", bookings)
        moves = [_free_time(number, 18) for number in range(PER_ROUND)]
        await _timed(
            booked.service,
            figures,
            "move",
            [
                partial(_act, client, each["id"], "reschedule", choice)
                for each, choice in zip(reservations, moves, strict=True)
            ],
        )
        await _timed(
            booked.service,
            figures,
            "cancel",
            [partial(_act, client, each["id"], "cancel", {}) for each in reservations],
        )
    return figures


async def _book_series(booked: BookedService) -> Figures:
    """Book twelve sessions at a time, one a week, and cancel them outside of the measurement."""
    figures: dict[str, float] = {}
    async with _manager(booked.service) as client:
        first = datetime.now(ZONE).date() + 3 * ONE_DAY
        body = {"weekdays": [first.isoweekday()], "first_date": str(first), "count": SERIES}
        calls = [
            partial(
                _series,
                client,
                voucher_id,
                {
                    **body,
                    "start_time": f"{16 + number % 4}:00",
                    "therapist_id": FIRST_THERAPIST + number // 4,
                },
            )
            for number, voucher_id in enumerate(booked.take(SERIES_PER_ROUND))
        ]
        results = await _timed(booked.service, figures, "series", calls)
        for result in results:
            for each in result["dates"]:
                await _act(client, each["reservation_id"], "cancel", {})
    return figures


@asynccontextmanager
async def _manager(service: VouchersService) -> AsyncIterator[httpx.AsyncClient]:
    headers = service.issuer.bearer(OWNER, "organization_owner", ORGANIZATION)
    async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=30) as client:
        yield client


def _free_time(number: int, hour: int) -> dict[str, Any]:
    """Return a time some days ahead after the bookings of the day, and a therapist."""
    day = datetime.now(ZONE).date() + (3 + number % 20) * ONE_DAY
    starts_at = datetime(day.year, day.month, day.day, hour, tzinfo=ZONE)
    therapist_id = FIRST_THERAPIST + number // 20
    return {"starts_at": starts_at.isoformat(), "therapist_id": therapist_id}


async def _book(
    client: httpx.AsyncClient, voucher_id: int, choice: dict[str, Any]
) -> dict[str, Any]:
    return await _post(client, f"/api/vouchers/{voucher_id}/reservations", choice)


async def _series(
    client: httpx.AsyncClient, voucher_id: int, body: dict[str, Any]
) -> dict[str, Any]:
    path = f"/api/vouchers/{voucher_id}/reservations/series"
    result = await _post(client, path, body)
    if any(each["reservation_id"] is None for each in result["dates"]):
        raise StartError("A session of the series was not free.", str(result))
    return result


async def _act(
    client: httpx.AsyncClient, reservation_id: int, action: str, body: dict[str, Any]
) -> dict[str, Any]:
    return await _post(client, f"/api/reservations/{reservation_id}/{action}", body)


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    _require(answer)
    result: dict[str, Any] = answer.json()
    return result


async def _timed(
    service: VouchersService,
    figures: dict[str, float],
    name: str,
    calls: Sequence[Callable[[], Awaitable[dict[str, Any]]]],
) -> list[dict[str, Any]]:
    """Make calls, four at once; enter their times and the service's CPU, and return the results."""
    times: list[float] = []
    turns = asyncio.Semaphore(4)

    async def one(call: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        async with turns:
            began = time.perf_counter()
            result = await call()
            times.append((time.perf_counter() - began) * 1e3)
            return result

    before, began = cpu_seconds([service.pid]), time.perf_counter()
    results = await asyncio.gather(*(one(call) for call in calls))
    seconds, cpu = time.perf_counter() - began, cpu_seconds([service.pid]) - before
    figures[f"{name}_per_second"] = len(calls) / seconds
    figures[f"{name}_p50_ms"] = median(times)
    figures[f"{name}_cpu_ms"] = cpu / len(calls) * 1e3
    return list(results)


def _at_most(what: str, of: str, solid: float, ambitious: float, unit: str = "ms") -> Aim:
    return Aim(what, of=of, solid=solid, ambitious=ambitious, at_most=True, unit=unit)


BOOKINGS_MEASURED = Measurement(
    name="bookings",
    title="Bookings",
    note="The vouchers service with organizations of ten therapists, each with 5,000 bookings, "
    "eight a day up to 60 days ahead. Few are the 50,000 reservations of one organization, many "
    "are 1,000,000, or as `--vouchers 10000000` says. Bookings are made, moved and cancelled by a "
    "manager, four at once. The feed is a therapist's, with the sessions of 90 days.",
    open_runs=open_bookings,
    aims=(
        _at_most(
            "slots of a month: CPU of a request",
            "slots of a month among few.cpu_us",
            6_000,
            3_000,
            "µs",
        ),
        Aim(
            "slots of a month among many: time, of that among few",
            of="slots of a month among few.per_second",
            against="slots of a month among many.per_second",
            solid=1.1,
            ambitious=1.02,
            at_most=True,
            unit="×",
        ),
        _at_most(
            "slots of a month of ten therapists: CPU",
            "slots of ten therapists.cpu_us",
            15_000,
            8_000,
            "µs",
        ),
        _at_most("book a session: CPU", "book, move, cancel.book_cpu_ms", 7, 4),
        _at_most("move a booking: CPU", "book, move, cancel.move_cpu_ms", 7, 4),
        _at_most("cancel a booking: CPU", "book, move, cancel.cancel_cpu_ms", 7, 4),
        _at_most("12 sessions in one series: CPU", "series of 12.series_cpu_ms", 25, 15),
        _at_most("a therapist's feed: CPU", "feed.cpu_us", 10_000, 5_000, "µs"),
        _at_most("an unchanged feed: CPU", "feed, unchanged.cpu_us", 2_000, 1_000, "µs"),
    ),
)
