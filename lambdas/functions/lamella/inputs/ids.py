"""Ids that a table brings along for its samples: one line of text each, passed on to the predictions."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from lamella.errors import BatchError

MAX_ID_CHARACTERS = 1024
# What spreadsheets run when they open a CSV, by its first character (OWASP, CSV Injection), in either width.
_FORMULA = re.compile("[=+@\uff0b\uff0d\uff1d\uff20-]")
# A number, a date or a telephone's: nothing in it can be called.
_PLAIN = re.compile(r"[+-][0-9., :/()-]*")


def id_position(header: Sequence[str], id_column: str, name: str) -> int:
    """Which column, from 0, is that of the ids.

    Raises
    ------
    BatchError
        If none of that name is there, or several are.
    """
    found = [place for place, column in enumerate(header) if column == id_column]
    if len(found) == 1:
        return found[0]
    if found:
        raise BatchError(f"{name} has {len(found)} columns {id_column!r}: rename all but one")
    shown = ", ".join(repr(column[:40]) for column in header[:5]) + (", ..." if len(header) > 5 else "")
    raise BatchError(f"{name} has no column {id_column!r} for ids: name one of its header's, {shown}")


def checked_id(text: str, where: str) -> str:
    """An id that can stand in a line of a table.

    Raises
    ------
    BatchError
        If it is empty, too long, or has a character that does not print.
    """
    if not text:
        raise BatchError(f"{where}: the id is empty: give every sample one")
    if len(text) > MAX_ID_CHARACTERS:
        raise BatchError(f"{where}: the id has {len(text):,} characters: give at most {MAX_ID_CHARACTERS:,}")
    if not text.isprintable():
        raise BatchError(f"{where}: the id {text[:40]!r} has a character that does not print: remove it")
    if _FORMULA.match(text) and not _PLAIN.fullmatch(text):
        raise BatchError(
            f"{where}: a spreadsheet would take the id {text[:40]!r} for a formula: let a letter come first"
        )
    return text


def ids_to_bytes(ids: Iterable[str]) -> bytes:
    """A line for each id, quoted as a field of a CSV where it has to be."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([each] for each in ids)
    return text.getvalue().encode()


class IdLines:
    """What `ids_to_bytes` made, given out again to the lines of a table, from its first on."""

    def __init__(self, data: bytes) -> None:
        # Not all lines at once: there may be as many as samples.
        self._ids = io.BytesIO(data)

    def before(self, lines: bytes) -> bytes:
        """Further lines, each with the next sample's id as its first column."""
        return b"".join(
            b"%b,%b" % (next(self._ids).rstrip(b"\n"), line) for line in lines.splitlines(keepends=True)
        )
