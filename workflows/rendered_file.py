"""Files that are checked in and made from Python: write one, or check that it is what would be written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def command(
    path: Path, render: Callable[[], str], arguments: Sequence[str] | None, *, prog: str, about: str | None
) -> int:
    """Write the file, or with ``--check`` compare it; the exit code is 1 where it differs.

    Parameters
    ----------
    render
        Gives the file's text.
    """
    parser = argparse.ArgumentParser(prog=prog, description=about)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file differs")
    check = parser.parse_args(arguments).check
    text = render()
    if not check:
        path.write_text(text, encoding="utf-8")
        return 0
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{path} is not what {prog} writes: run `make render`\n")
    return 1
