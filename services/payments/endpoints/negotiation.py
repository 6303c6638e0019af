"""Which of our forms of a thing a caller would rather have: RFC 9110, section 12.5.1."""

import re
from collections.abc import Sequence

_WEIGHT = re.compile(r";\s*q=(0(?:\.[0-9]*)?|1(?:\.0*)?)\s*(?:;|$)", re.IGNORECASE | re.ASCII)


def preferred(accept: Sequence[str], ours: Sequence[str]) -> str | None:
    """Return the form that the lines of `Accept` prefer, or None when they want none of ours.

    Of two that are wanted alike it is the one that is named first. Without a line, or with empty
    ones alone, it is our first.
    """
    ranges = [part.strip() for line in accept for part in line.lower().split(",")]
    ranges = [part for part in ranges if part]  # RFC 9110, section 5.6.1.2
    if not ranges:
        return ours[0]
    weights = {part.partition(";")[0].rstrip(): _weight(part) for part in ranges}
    order = list(weights)

    def rank(form: str) -> tuple[float, int]:
        named = next((r for r in _ranges_of(form) if r in weights), None)
        return (weights[named], -order.index(named)) if named else (0.0, 0)

    best = max(ours, key=rank)
    return best if rank(best)[0] > 0 else None


def _weight(part: str) -> float:
    """Return the `q` of a media range; what is no number is passed over."""
    found = _WEIGHT.search(part)
    return float(found[1]) if found else 1.0


def _ranges_of(form: str) -> tuple[str, str, str]:
    """Return the media ranges that cover a form, the most specific first."""
    return form, f"{form.partition('/')[0]}/*", "*/*"
