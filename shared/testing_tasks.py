"""A pytest plugin that ends the tasks of a failed test before its fixtures are torn down.

`asyncio.gather` raises the first error while the other tasks continue. They would write rows while
the database is emptied, and use connections of a disposed engine: PostgreSQL detects a deadlock,
and the next tests fail because of the remaining rows and connections.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from typing import Any

import pytest

AsyncTest = Callable[..., Coroutine[Any, Any, None]]

TIME_TO_END = 15.0
"""Seconds in which tasks may end by themselves: longer than a request waits for a connection."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run a test so that all of its tasks have ended if it fails."""
    test = pyfuncitem.obj
    if inspect.iscoroutinefunction(test) and not hasattr(test, "hypothesis"):
        pyfuncitem.obj = ending_its_tasks(test)
    try:
        return (yield)
    finally:
        pyfuncitem.obj = test


def ending_its_tasks(test: AsyncTest, *, seconds: float = TIME_TO_END) -> AsyncTest:
    """Return a test that raises its error only after the tasks that it started have ended.

    Tasks that do not end within `seconds` are cancelled.
    """

    @wraps(test)
    async def run(**arguments: Any) -> None:
        before = asyncio.all_tasks()
        try:
            await test(**arguments)
        except BaseException:
            await _end(asyncio.all_tasks() - before, seconds)
            raise

    return run


async def _end(tasks: set[asyncio.Task[Any]], seconds: float) -> None:
    if not tasks:
        return
    _, remaining = await asyncio.wait(tasks, timeout=seconds)
    for task in remaining:
        task.cancel()
    if remaining:
        await asyncio.wait(remaining, timeout=seconds)
