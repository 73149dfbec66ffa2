"""Where a command prints: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, RenderableType


@dataclass(frozen=True)
class Output:
    """One command's output.

    Attributes
    ----------
    as_json
        Whether stdout gets one JSON object instead of tables.
    """

    as_json: bool
    out: Console = field(default_factory=lambda: Console(highlight=False))
    err: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    @property
    def live(self) -> bool:
        """Whether anyone watches stderr."""
        return self.err.is_terminal

    def say(self, text: str) -> None:
        """A line about what is being done; for people only."""
        if self.live or not self.as_json:
            self.err.print(text, style="dim", markup=False, soft_wrap=True)

    def result(self, data: Mapping[str, Any], *shown: RenderableType) -> None:
        """The command's result: ``data`` as JSON, or ``shown`` for people."""
        if self.as_json:
            sys.stdout.write(json.dumps(data) + "\n")
            # 'lamella local' stays after it.
            sys.stdout.flush()
            return
        for renderable in shown:
            # Text is to be copied: it is neither wrapped nor read as markup.
            self.out.print(renderable, soft_wrap=isinstance(renderable, str), markup=False)


def plain_line(text: str) -> str:
    """``text`` on one line, without what a terminal would act on."""
    return " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())
