"""What comes of something hostile, in a process of its own: its error, and the most memory that it took."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Beyond any bound that is tested; so that a bound that does not hold takes no more of the machine.
MOST_BYTES = 3 << 30
# Forked, so that no test waits for imports.
_processes = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Outcome:
    """The error's class and its bases, what it says, and how many bytes the process grew by."""

    kinds: tuple[str, ...]
    message: str
    grown_bytes: int


def outcome_of(call: Callable[..., Any], *arguments: Any) -> Outcome:
    """Call a function of a module of tests; nothing that it does can harm this process."""
    receiver, sender = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_report, args=(sender, call, arguments))
    process.start()
    sender.close()
    try:
        return Outcome(*receiver.recv()) if receiver.poll(120) else Outcome((), "no answer in 120 s", 0)
    except EOFError:
        process.join()
        return Outcome((), f"the process ended by itself: {process.exitcode}", 0)
    finally:
        process.kill()
        process.join()


def _report(sender: Connection, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    before = _status("VmRSS")
    kinds: tuple[str, ...] = ()
    message = "nothing is wrong with it"
    try:
        call(*arguments)
    except BaseException as error:
        kinds, message = tuple(kind.__name__ for kind in type(error).__mro__), str(error)
    # Of a child Linux also counts what its parent held when it began: no more than that says nothing.
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    grown = max(0, _status("VmHWM") - before)
    sender.send((kinds, message, grown + (children if children > before + grown else 0)))


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))
