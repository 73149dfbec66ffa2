"""Nothing but typed errors, whatever the bytes: ``python -m benchmarks.fuzz [--minutes 5] [--json]``.

Every reader of bytes that others may have made is given sound files that were tampered with: what is not
sound must be a LamellaError of one line, within `CASE_S` seconds and `GROWTH_BYTES` of memory. A case is
named by its target and number, and can be run again alone.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.fuzz_targets import Target, targets
from benchmarks.mutation import mutated
from lamella.errors import LamellaError
from workflows.cli.console import Output

CASE_S = 10
# Beyond what the process holds before the first case. Another process decodes parquet, bounded itself.
GROWTH_BYTES = 1 << 30
MOST_FAILURES = 20


@dataclass
class Found:
    """Of one target."""

    cases: int = 0
    errors_typed: int = 0
    failures: list[str] = field(default_factory=list)


class _OutOfTimeError(Exception):
    """Not one of Lamella's."""


def fuzzed(target: Target, seconds: float, first: int = 0, most: int | None = None) -> Found:
    """Cases of one target, in a process of its own, until the time is over.

    Parameters
    ----------
    first, most
        Number of the first case, and how many; None for as many as there is time for.
    """
    processes = multiprocessing.get_context("fork")
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=_run, args=(sender, target, seconds, first, most))
    process.start()
    sender.close()
    found, number = Found(), first
    try:
        while True:
            kind, text = receiver.recv()
            if kind == "case":
                number = int(text)
            elif kind == "failure":
                found.failures.append(text)
            else:
                counts = json.loads(text)
                found.cases, found.errors_typed = counts["cases"], counts["errors_typed"]
                break
    except EOFError:
        process.join()
        found.cases = number - first + 1
        found.failures.append(f"{target.name}:{number}: the process ended by itself: {process.exitcode}")
    finally:
        process.kill()
        process.join()
    return found


def _run(sender: Connection, target: Target, seconds: float, first: int, most: int | None) -> None:
    until = time.monotonic() + seconds
    typed = failed = cases = 0
    number = first
    with _bounds():
        while time.monotonic() < until and failed < MOST_FAILURES and (most is None or cases < most):
            sender.send(("case", str(number)))
            data = mutated(target.seeds, f"{target.name}:{number}")
            cases += 1
            try:
                with _limited():
                    target.read(data)
            except LamellaError as error:
                typed += 1
                if not str(error).isprintable():
                    failed += 1
                    sender.send(("failure", f"{target.name}:{number}: a message of several lines"))
            except BaseException as error:
                failed += 1
                said = f"{target.name}:{number}: {type(error).__name__}: {error}"
                sender.send(("failure", " ".join(said.split())[:300]))
            number += 1
    sender.send(("done", json.dumps({"cases": cases, "errors_typed": typed})))


@contextmanager
def _bounds() -> Iterator[None]:
    def out_of_time(_: int, __: FrameType | None) -> None:
        raise _OutOfTimeError(f"no answer in {CASE_S} s")

    signal.signal(signal.SIGALRM, out_of_time)
    lines = Path("/proc/self/status").read_text().splitlines()
    held = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (held + GROWTH_BYTES, held + GROWTH_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    yield


@contextmanager
def _limited() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, CASE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main(
    minutes: Annotated[float, typer.Option(min=0.01, help="For all targets together.")] = 5.0,
    only: Annotated[str, typer.Option(metavar="NAME", help="Targets whose name has this in it.")] = "",
    case: Annotated[
        str | None, typer.Option(metavar="TARGET:NUMBER", help="One case again, as a failure names it.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tamper with sound files; exit 1 if anything but a typed error comes of one."""
    output = Output(json_)
    results: dict[str, Found] = {}
    with targets() as known:
        if case is not None:
            name, _, number = case.rpartition(":")
            chosen = [target for target in known if target.name == name]
            results = {each.name: fuzzed(each, 60, int(number), 1) for each in chosen}
        else:
            chosen = [target for target in known if only in target.name]
            for target in chosen:
                output.say(f"fuzzing {target.name}")
                results[target.name] = fuzzed(target, 60 * minutes / len(chosen))
    if not results:
        output.err.print(f"error: there is no target {case or only!r}", markup=False)
        raise typer.Exit(2)
    if json_:
        sys.stdout.write(json.dumps({name: vars(found) for name, found in results.items()}) + "\n")
    else:
        table = Table("target", "cases", "typed errors", "failures")
        for name, found in results.items():
            table.add_row(
                name, f"{found.cases:,}", f"{found.errors_typed:,}", "\n".join(found.failures) or "0"
            )
        output.out.print(table)
    if any(found.failures for found in results.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
