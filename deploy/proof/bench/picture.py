"""The aims as a picture: one bar for each. 1 on the scale is the solid aim; more is better."""

from collections.abc import Sequence
from html import escape
from math import log2

from deploy.proof.bench.results import AimResult
from deploy.proof.bench.table import number

_COLOURS = {"ambitious": "#2e7d32", "solid": "#7cb342", "missed": "#c62828"}
_ROW, _MARGIN, _WIDTH, _RIGHT, _TOP = 26, 390, 360, 90, 52
_LOWEST, _HIGHEST = 0.25, 4.0


def svg(aims: Sequence[AimResult]) -> str:
    """Return the picture as an SVG document."""
    height = _TOP + _ROW * len(aims) + 14
    total = _MARGIN + _WIDTH + _RIGHT
    bars = "\n".join(_bar(each, _TOP + _ROW * i) for i, each in enumerate(aims))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}"'
        f' font-family="sans-serif" font-size="12" role="img">\n'
        f'<rect width="{total}" height="{height}" fill="white"/>\n'
        f'<text x="{_MARGIN}" y="20" fill="#555">against the solid aim (1×); ◆ the ambitious'
        " aim</text>\n"
        f"{_grid(height)}\n{bars}\n</svg>\n"
    )


def _grid(height: int) -> str:
    parts = []
    for mark in (0.25, 0.5, 1.0, 2.0, 4.0):
        x, weight = _x(mark), 2 if mark == 1 else 0.5
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="{_TOP - 8}" y2="{height - 10}" stroke="#888"'
            f' stroke-width="{weight}"/><text x="{x}" y="{_TOP - 14}" text-anchor="middle"'
            f' fill="#555">{mark:g}×</text>'
        )
    return "\n".join(parts)


def _bar(each: AimResult, y: int) -> str:
    aim, spread = each.aim, each.spread
    start, end, middle = _x(_LOWEST), _x(_score(each, spread.median)), y + 9
    ends = sorted(_x(_score(each, value)) for value in (spread.low, spread.high))
    goal = _x(_score(each, aim.ambitious))
    return (
        f'<text x="{_MARGIN - 10}" y="{y + 13}" text-anchor="end">{escape(aim.name)}</text>'
        f'<rect x="{start}" y="{y + 2}" width="{max(end - start, 1):.1f}" height="14"'
        f' fill="{_COLOURS[each.verdict]}"/>'
        f'<line x1="{ends[0]}" x2="{ends[1]}" y1="{middle}" y2="{middle}" stroke="black"/>'
        f'<path d="M{goal} {middle - 5} l5 5 l-5 5 l-5 -5 z" fill="#1a237e"/>'
        f'<text x="{_MARGIN + _WIDTH + 10}" y="{y + 13}">'
        f"{number(spread.median)} {escape(aim.unit)}</text>"
    )


def _score(each: AimResult, value: float) -> float:
    """Return the ratio of a value to the solid aim; above 1 is better."""
    if each.aim.at_most:
        return each.aim.solid / value if value > 0 else _HIGHEST
    return value / each.aim.solid


def _x(score: float) -> float:
    visible = min(max(score, _LOWEST), _HIGHEST)
    part = (log2(visible) - log2(_LOWEST)) / (log2(_HIGHEST) - log2(_LOWEST))
    return round(_MARGIN + part * _WIDTH, 1)
