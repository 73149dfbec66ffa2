"""A run as a person watches it: one row per worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lamella.progress import WorkerProgress
from workflows.cli.console import Output

_BAR_CELLS = 32
_TURN_S = 10.0  # after which it may well be others that a run waits for


@dataclass
class WorkerState:
    """Where one worker is, as far as its log says."""

    attempt: int = 0
    state: str = "starting"
    layer: int = 0
    layers: int = 0
    live: int | None = None


@dataclass
class RunProgress:
    """Where the workers of a run are."""

    title: str
    started_s: float = field(default_factory=time.monotonic)
    workers: dict[int, WorkerState] = field(default_factory=dict)

    def apply(self, line: WorkerProgress) -> None:
        """Take in one log line; lines may repeat, and come in any order."""
        worker = self.workers.setdefault(line.worker, WorkerState())
        if line.attempt < worker.attempt:
            return
        if line.attempt > worker.attempt:
            worker = self.workers[line.worker] = WorkerState(line.attempt)
        worker.layers = max(worker.layers, line.layers or 0)
        if line.done is not None and line.done >= worker.layer:
            worker.layer = line.done
            worker.live = line.live if line.live is not None else worker.live
        if line.message == "ended":
            worker.state = "done" if not worker.layers or worker.layer >= worker.layers else "left"
        elif worker.state not in {"done", "left"}:
            worker.state = "running" if line.message == "progress" else "joined"

    def render(self) -> RenderableType:
        """What is shown now."""
        spent_s = time.monotonic() - self.started_s
        head = Text(f"{self.title}  {spent_s:5.1f} s", style="bold")
        if not self.workers:
            # Plan alone knows whether a run waits, and its log is followed by nobody here.
            turn = (
                ", or waiting for its turn while other runs hold what it needs" if spent_s > _TURN_S else ""
            )
            return Group(head, Text(f"planning and launching workers{turn}", style="dim"))
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("worker", justify="right")
        table.add_column("layer", justify="right")
        table.add_column("", width=_BAR_CELLS)
        table.add_column("live samples", justify="right")
        table.add_column("state")
        for number, worker in sorted(self.workers.items()):
            table.add_row(
                str(number),
                f"{worker.layer} / {worker.layers}" if worker.layers else "",
                ProgressBar(total=max(worker.layers, 1), completed=worker.layer, width=_BAR_CELLS),
                f"{worker.live:,}" if worker.live is not None else "",
                worker.state,
            )
        if all(worker.state == "done" for worker in self.workers.values()):
            return Group(head, table, Text("collecting the output", style="dim"))
        return Group(head, table)


@contextmanager
def shown(progress: RunProgress, output: Output) -> Iterator[None]:
    """Show a run's progress while it lasts, if stderr is a terminal."""
    if not output.live:
        yield
        return
    with Live(get_renderable=progress.render, console=output.err, refresh_per_second=8, transient=True):
        yield
