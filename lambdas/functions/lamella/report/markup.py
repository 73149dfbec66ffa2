"""Pieces of the page: every text that comes from outside goes through here, and is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


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


def _kind(column: int, words: int) -> dict[str, str]:
    return {} if column < words else {"class_": "number"}
