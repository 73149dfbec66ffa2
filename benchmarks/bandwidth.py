"""How fast one core reads its L2 cache and its memory."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from lamella.kernel.blocks import aligned
from lamella.kernel.processor import caches_here

_SOURCE = Path(__file__).with_suffix(".c")
_READ_BYTES = 1 << 30
_RUNS = 7


def measure_bandwidth() -> tuple[float, float] | None:
    """Bytes a second read from L2 and from memory, medians; None where there is no compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "bandwidth.so")
        flags = ["-O3", "-march=native", "-mprefer-vector-width=512", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, "-o", str(library), str(_SOURCE)], check=True)
        read_all = ctypes.CDLL(str(library)).read_all
    read_all.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
    read_all.restype = ctypes.c_float
    caches = caches_here()
    return tuple(  # type: ignore[return-value]
        median(_read(read_all, size) for _ in range(_RUNS))
        for size in (caches.l2_bytes // 2, min(_READ_BYTES, 8 * caches.last_bytes))
    )


def _read(read_all: ctypes._NamedFuncPointer, size: int) -> float:
    data = aligned(1, size // 4)
    data[:] = np.float32(1)
    times = _READ_BYTES // size
    began_s = time.perf_counter()
    read_all(data.ctypes.data, size // 64, times)
    return size * times / (time.perf_counter() - began_s)
