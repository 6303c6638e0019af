"""Content negotiation: the media type that a client prefers (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Sequence

_WEIGHT = re.compile(r";\s*q=(0(?:\.[0-9]*)?|1(?:\.0*)?)\s*(?:;|$)", re.IGNORECASE | re.ASCII)


def preferred(accept: Sequence[str], ours: Sequence[str]) -> str | None:
    """Return which of our media types the `Accept` headers prefer; None when they accept none.

    Of two with the same weight it is the one that is named first. Without a header, or with empty
    ones alone, it is our first.
    """
    ranges = [part.strip() for line in accept for part in line.lower().split(",")]
    ranges = [part for part in ranges if part]  # RFC 9110, section 5.6.1.2
    if not ranges:
        return ours[0]
    # The weight is 1 without a valid `q`.
    weights = {
        part.partition(";")[0].rstrip(): float(match[1]) if (match := _WEIGHT.search(part)) else 1.0
        for part in ranges
    }
    order = list(weights)

    def rank(form: str) -> tuple[float, int]:
        # The most specific range comes first.
        covering = (form, f"{form.partition('/')[0]}/*", "*/*")
        media_range = next((r for r in covering if r in weights), None)
        return (weights[media_range], -order.index(media_range)) if media_range else (0.0, 0)

    best = max(ours, key=rank)
    return best if rank(best)[0] > 0 else None
