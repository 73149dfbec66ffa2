"""What a worker computes with: a kernel, threads, and caches of known sizes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from lamella.kernel.choice import choose_kernel
from lamella.kernel.interface import Kernel

VCPU_MB = 1769  # docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Caches:
    """Sizes of a processor's caches; by default, what is common.

    Attributes
    ----------
    l2_bytes
        Of one core.
    last_bytes
        Of the level that cores share.
    """

    l2_bytes: int = 1 << 20
    last_bytes: int = 16 << 20


class Processor:
    """A kernel, and threads to share its work.

    Parameters
    ----------
    kernel
        By default the fastest that there is.
    caches
        By default this machine's.
    check
        Called before each item of shared work, by the thread that does it; what it raises ends the work.
        A layer of a large batch may take minutes: this is how its end is not waited for.
    """

    def __init__(
        self,
        threads: int = 1,
        kernel: Kernel | None = None,
        caches: Caches | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.threads = threads
        self.kernel = kernel or choose_kernel()
        self.caches = caches or caches_here()
        self._check = check
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="kernel") if threads > 1 else None

    def share(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """``[function(item) for item in items]``, by all threads."""

        def checked(item: Item) -> Result:
            self._check()
            return function(item)

        if self._pool is None or len(items) < 2:
            return [checked(item) for item in items]
        return list(self._pool.map(checked, items))

    def close(self) -> None:
        """End the threads."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Processor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def threads_for(memory_mb: int) -> int:
    """How many threads a function of so much memory can keep busy: Lambda gives processors by memory."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:
        processors = os.cpu_count() or 1
    return max(1, min(math.ceil(memory_mb / VCPU_MB), processors))


@cache
def caches_here() -> Caches:
    """Those of the machine, as far as it tells."""
    sizes: dict[int, int] = {}
    for index in sorted(_CACHES.glob("index*")):
        try:
            kind, size = (index / "type").read_text().strip(), (index / "size").read_text().strip()
            level = int((index / "level").read_text())
            if kind != "Instruction":
                sizes[level] = int(size.rstrip("KM")) << {"K": 10, "M": 20}.get(size[-1], 0)
        except (OSError, ValueError):
            continue
    default = Caches()
    l2 = sizes.get(2) or default.l2_bytes
    return Caches(l2, max(sizes.get(3) or default.last_bytes, l2))
