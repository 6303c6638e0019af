"""The times at which refusals are answered."""

from services.identity.service.refusal_delay import MAX_UNITS, MEMORY_SECONDS, RefusalDelay


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_refusal_takes_whole_units() -> None:
    delay = RefusalDelay(0.5, Clock())
    assert [delay.units(elapsed) for elapsed in (0.0, 0.1, 0.5)] == [1, 1, 1]
    assert delay.units(0.51) == 2


def test_after_a_slow_one_all_are_as_slow_for_a_minute() -> None:
    clock = Clock()
    delay = RefusalDelay(0.5, clock)
    assert [delay.units(elapsed) for elapsed in (0.1, 1.2, 0.1, 0.6)] == [1, 3, 3, 3]
    clock.now += MEMORY_SECONDS + 1
    assert delay.units(0.1) == 1


def test_another_slow_one_begins_the_minute_anew() -> None:
    clock = Clock()
    delay = RefusalDelay(0.5, clock)
    for _ in range(3):
        assert delay.units(1.2) == 3
        clock.now += MEMORY_SECONDS - 1
        assert delay.units(0.1) == 3


def test_a_very_slow_one_slows_the_others_down_within_bounds() -> None:
    delay = RefusalDelay(0.5, Clock())
    assert delay.units(60.0) == 120
    assert delay.units(0.1) == MAX_UNITS
