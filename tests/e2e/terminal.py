"""A conversation with a command that asks, in a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

QUESTION = re.compile(r"[\]?]: ?$")
"""How a question ends that waits for an answer: "Stack Name [lamella]: "."""

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LIMIT_S = 300.0


def converse(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str], answers: Mapping[str, str]
) -> tuple[str, int]:
    """Run a command in a terminal, and answer what it asks.

    Parameters
    ----------
    answers
        What to type where a question contains the key; elsewhere Return alone, which takes the default.

    Returns
    -------
    tuple
        All that the terminal showed, without control sequences, and the exit code.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "TERM": "dumb", "COLUMNS": "200"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown, answered, until = b"", 0, time.monotonic() + _LIMIT_S
    try:
        while time.monotonic() < until:
            ready, _, _ = select.select([ours], [], [], 0.2)
            if ready:
                try:
                    data = os.read(ours, 65536)
                except OSError:  # Linux: the other side is closed
                    data = b""
                if not data:
                    break
                shown += data
                continue
            question = _plain(shown[answered:]).rsplit("\n", 1)[-1]
            if QUESTION.search(question):
                typed = next((answer for part, answer in answers.items() if part in question), "")
                os.write(ours, f"{typed}\n".encode())
                answered = len(shown)
        else:
            raise AssertionError(f"{command} does not end; it showed:\n{_plain(shown)}")
        return _plain(shown), process.wait(30)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _plain(shown: bytes) -> str:
    return _CONTROL.sub("", shown.decode(errors="replace")).replace("\r", "")
