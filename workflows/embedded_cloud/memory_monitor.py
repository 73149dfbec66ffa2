"""Measures the memory of running execution environments and tells when one has more than its function may."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SAMPLE_PERIOD_S = 0.075
_SAMPLES_PER_TREE_SCAN = 3
_LISTS_CHILDREN = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists()


@dataclass
class Watch:
    """One process tree under watch.

    Attributes
    ----------
    peak_bytes
        Highest resident size seen of the tree, or that the kernel remembers of the process itself.
    """

    pid: int
    limit_bytes: int
    on_exceeded: Callable[[], None]
    peak_bytes: int = 0
    exceeded: bool = False
    descendants: tuple[int, ...] = field(default=())

    def sample(self, *, scan: bool) -> None:
        """Measure once; tell, once, if the limit is passed."""
        if scan:
            self.descendants = descendants_of(self.pid)
        resident, peak = resident_and_peak_bytes(self.pid)
        tree = resident + sum(resident_and_peak_bytes(pid)[0] for pid in self.descendants)
        self.peak_bytes = max(self.peak_bytes, tree, peak)
        if self.peak_bytes > self.limit_bytes and not self.exceeded:
            self.exceeded = True
            self.on_exceeded()


class MemoryMonitor:
    """One thread that samples every watched process tree."""

    def __init__(self, period_s: float = SAMPLE_PERIOD_S) -> None:
        self._period_s = period_s
        self._by_id: dict[int, Watch] = {}
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._closed = False
        threading.Thread(target=self._run, name="memory-monitor", daemon=True).start()

    def add(self, watch: Watch) -> None:
        """Begin to sample."""
        with self._lock:
            self._by_id[id(watch)] = watch
        self._work.set()

    def remove(self, watch: Watch) -> None:
        """Stop sampling; unknown watches are ignored."""
        with self._lock:
            self._by_id.pop(id(watch), None)

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._work.set()

    def _run(self) -> None:
        count = 0
        pause = threading.Event()
        while not self._closed:
            self._work.wait()
            with self._lock:
                watches = list(self._by_id.values())
                if not watches:
                    self._work.clear()
            for watch in watches:
                watch.sample(scan=count % _SAMPLES_PER_TREE_SCAN == 0)
            count += 1
            pause.wait(self._period_s)


def resident_and_peak_bytes(pid: int) -> tuple[int, int]:
    """Resident size of one process now, and its highest so far; zeros if it is gone."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError, IndexError):
            now = peak = 0
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak = int(line.split()[1]) * 1024
                elif line.startswith("VmRSS:"):
                    now = int(line.split()[1]) * 1024
            return now, peak
        return 0, 0
    with contextlib.suppress(psutil.Error):
        resident = psutil.Process(pid).memory_info().rss
        return resident, resident
    return 0, 0


def descendants_of(pid: int) -> tuple[int, ...]:
    """Process ids of children, their children, and so on."""
    if sys.platform != "linux" or not _LISTS_CHILDREN:
        with contextlib.suppress(psutil.Error):
            return tuple(child.pid for child in psutil.Process(pid).children(recursive=True))
        return ()
    found: list[int] = []
    pending = [pid]
    while pending:
        with contextlib.suppress(OSError, ValueError):
            for task in Path(f"/proc/{pending.pop()}/task").iterdir():
                children = [int(child) for child in (task / "children").read_text().split()]
                found += children
                pending += children
    return tuple(found)
