"""The throttle: how many batches may begin at once, and how long the next one waits."""

import time

import pytest

from shared.throttle import Throttle


def test_a_burst_may_begin_at_once_and_the_next_after_the_interval() -> None:
    throttle = Throttle(60, burst=3)
    for _ in range(3):
        assert throttle.pause() <= 0
        throttle.count()
    assert throttle.pause() == pytest.approx(60, abs=1)


def test_idle_time_allows_a_whole_burst_and_not_more() -> None:
    interval = 0.5
    throttle = Throttle(interval, burst=2)
    throttle.count()
    while throttle.pause() > -2 * interval:
        time.sleep(interval / 10)
    throttle.count()
    assert throttle.pause() <= 0
    throttle.count()
    assert throttle.pause() > 0


def test_without_an_interval_nothing_waits() -> None:
    throttle = Throttle(0)
    for _ in range(100):
        throttle.count()
        assert throttle.pause() <= 0
