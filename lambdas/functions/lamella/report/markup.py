"""Pieces of the page: every text that comes from outside goes through here, and is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_UNITS = ("B", "kB", "MB", "GB", "TB")


def element(name: str, *inside: str, **attributes: str | float) -> str:
    """An element of markup that is inside already; attributes are escaped, ``class_`` is ``class``."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items()
    )
    return f"<{name}{given}>{''.join(inside)}</{name}>"


def text(value: object) -> str:
    """Escaped, without characters that a page may not hold."""
    told = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return escape(told)


def section(title: str, *inside: str) -> str:
    """A part of the page under a heading."""
    return element("section", element("h2", text(title)), *inside)


def note(words: str) -> str:
    """A paragraph in a quieter tone."""
    return element("p", text(words), class_="note")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table whose first ``words`` columns are words, the others numbers; it scrolls if too wide."""
    cells = "".join(element("th", text(name), **_kind(k, words)) for k, name in enumerate(head))
    body = "".join(
        element("tr", *(element("td", text(cell), **_kind(k, words)) for k, cell in enumerate(row)))
        for row in rows
    )
    whole = element("table", element("thead", element("tr", cells)), element("tbody", body))
    return element("div", whole, class_="scroll", tabindex="0")


def folded(title: str, *inside: str) -> str:
    """What is shown when one asks for it."""
    return element("details", element("summary", text(title)), *inside)


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


def _kind(column: int, words: int) -> dict[str, str]:
    return {} if column < words else {"class_": "number"}
