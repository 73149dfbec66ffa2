"""Seconds, dollars, bytes and ratios as people read them."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB")


def seconds(value: float) -> str:
    """A duration: milliseconds below one second."""
    if value == 0:
        return "0"
    return f"{value:,.2f} s" if value >= 1 else f"{value * 1000:,.1f} ms"


def usd(value: float) -> str:
    """Dollars to four significant digits."""
    if value == 0:
        return "$0"
    return f"${value:,.4f}" if value >= 1 else f"${value:#.4g}" if value >= 1e-4 else f"${value:.2e}"


def size(count: float) -> str:
    """Bytes in decimal units."""
    for unit in _UNITS[:-1]:
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"


def ratio(value: float, of: float) -> str:
    """How many times as much, as a number; nothing where there is nothing to compare with."""
    return f"{value / of:,.3g}" if of else ""
