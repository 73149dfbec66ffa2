"""What reading somebody's file may take of a function's memory: an error, and not the function's end.

Lambda ends a function that takes more than its memory, without a word to anybody. Before that, the system
refuses what is asked for beyond a bound, and that is an error like any other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

with contextlib.suppress(ImportError):  # not on Windows
    import resource

# What is left for everything else, and what the system itself needs to read a file of that size.
KEPT_BYTES = 96 << 20
MEMORY_MB = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"  # as Lambda sets it (developer guide, configuration-envvars)


def spare_bytes(environment: Mapping[str, str] = os.environ) -> int | None:
    """Memory that this function has left; None outside of Lambda, or where /proc does not say."""
    held = _status("VmRSS")
    if MEMORY_MB not in environment or held is None:
        return None
    return max(0, (int(environment[MEMORY_MB]) << 20) - held - KEPT_BYTES)


@contextlib.contextmanager
def bounded_memory(spare: int | None) -> Iterator[None]:
    """Have what would take more memory than ``spare`` beside what is taken already raise MemoryError.

    Of the whole process, and so to be used where one thread is at work. None: no bound.
    """
    private = _status("VmData")
    if spare is None or private is None or "resource" not in globals():
        yield
        return
    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    bound = private + spare
    if most != resource.RLIM_INFINITY:
        bound = min(bound, most)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, most))


def _status(name: str) -> int | None:
    """Bytes of what /proc/self/status has in kB."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) << 10
    return None
