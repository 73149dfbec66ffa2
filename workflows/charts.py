"""Charts as SVG: points and lines over two logarithmic axes, readable in light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

WIDTH, HEIGHT = 880, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 310, 44, 56
COLOURS = ("#2f6fde", "#d9622b", "#2a9d62", "#9a57c9", "#c23b5a", "#8a7a22")
_STYLE = """
svg { font: 13px system-ui, sans-serif; background: #fff; color: #1d2430 }
text { fill: currentColor } .quiet { opacity: .65 } .grid { stroke: currentColor; opacity: .14 }
.dot { opacity: .55 } .line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) { svg { background: #14181f; color: #e6e9ef } }
"""
Point = tuple[float, float]
Kind = Literal["dots", "line", "mark"]


@dataclass(frozen=True)
class Series:
    """Points of one kind.

    Attributes
    ----------
    points
        Both coordinates are positive.
    titles
        Of each point, shown where the pointer rests; or none.
    """

    name: str
    points: Sequence[Point]
    kind: Kind = "dots"
    titles: Sequence[str] = ()


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis, whole decades or parts of them."""

    label: str
    low: float
    high: float
    unit: str = ""

    @classmethod
    def over(cls, label: str, values: Sequence[float], unit: str = "") -> Axis:
        """Around some positive values."""
        low, high = min(values), max(values)
        if high / low < 2:
            low, high = low / 1.5, high * 1.5
        margin = (high / low) ** 0.06
        return cls(label, low / margin, high * margin, unit)

    def share(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        return math.log(value / self.low) / math.log(self.high / self.low)

    def ticks(self) -> list[float]:
        """Round values, some three to nine."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
            found = [step * 10.0**k for k in decades for step in steps]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) >= 3:
                break
        return found


def chart(title: str, x: Axis, y: Axis, series: Sequence[Series]) -> str:
    """An SVG document."""
    across, down = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def place(point: Point) -> Point:
        return _LEFT + across * x.share(point[0]), _TOP + down * (1 - y.share(point[1]))

    body = [f'<text x="{_LEFT}" y="24" font-weight="600">{escape(title)}</text>']
    for value in x.ticks():
        at, _ = place((value, y.low))
        body.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{_TOP + down}"/>')
        body.append(
            f'<text x="{at:.1f}" y="{_TOP + down + 20}" text-anchor="middle">{x.unit}{value:g}</text>'
        )
    for value in y.ticks():
        _, at = place((x.low, value))
        body.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{_LEFT + across}"/>')
        body.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{y.unit}{value:g}</text>')
    middle = _LEFT + across / 2
    body.append(
        f'<text class="quiet" x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">{escape(x.label)}</text>'
    )
    body.append(f'<text class="quiet" x="{_LEFT}" y="{_TOP - 6}">{escape(y.label)}</text>')
    for number, each in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        body += _drawn(each, [place(point) for point in each.points], colour)
        top = _TOP + 10 + 22 * number
        body.append(f'<circle cx="{WIDTH - _RIGHT + 18}" cy="{top}" r="5" fill="{colour}"/>')
        body.append(f'<text x="{WIDTH - _RIGHT + 30}" y="{top + 4}">{escape(each.name)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


def _drawn(series: Series, points: Sequence[Point], colour: str) -> list[str]:
    if series.kind == "line":
        path = "L".join(f"{left:.1f} {top:.1f}" for left, top in points)
        return [f'<path class="line" d="M{path}" stroke="{colour}"/>']
    radius = 8 if series.kind == "mark" else 3.5
    shape = f'fill="none" stroke="{colour}" stroke-width="3"' if series.kind == "mark" else f'fill="{colour}"'
    titles = series.titles or [""] * len(points)
    return [
        f'<circle class="dot" cx="{left:.1f}" cy="{top:.1f}" r="{radius}" {shape}>'
        f"<title>{escape(title)}</title></circle>"
        for (left, top), title in zip(points, titles, strict=True)
    ]
