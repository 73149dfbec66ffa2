"""What reads the bytes of others, called as its callers do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from lamella.codec import decode
from lamella.dealing import parse_dealing
from lamella.inputs import read_batch
from lamella.memory_bound import KEPT_BYTES, MEMORY_MB, bounded_memory, spare_bytes
from lamella.plan import parse_assignment
from lamella.shares import share_from_bytes
from model_prep.readers import open_source

SPARE_MB = 320
HUGE_MB = 1 << 20


def read_samples(data: bytes, name: str, features: int = 4, id_column: str | None = None) -> None:
    read_batch(data, name, features, None, id_column)


def read_samples_in_a_function(data: bytes, name: str, features: int = 4) -> None:
    """As Plan does, in a function that has `SPARE_MB` left, whatever this process holds."""
    held = (HUGE_MB << 20) - KEPT_BYTES - (spare_bytes({MEMORY_MB: str(HUGE_MB)}) or 0)
    os.environ[MEMORY_MB] = str((held + KEPT_BYTES >> 20) + SPARE_MB)
    try:
        with bounded_memory(spare_bytes()):
            read_batch(data, name, features)
    except MemoryError:
        # Nothing else of this process is left behind: the bound has come and gone.
        assert np.zeros(1 << 20, np.uint8).nbytes
        raise


def read_source(path: Path, **options: Any) -> None:
    for layer in open_source(str(path), **options):
        assert layer.outputs


def read_assignment(data: bytes) -> None:
    parse_assignment(data, "the task")


def read_dealing(data: bytes) -> None:
    parse_dealing(data, 3, [(0, 3)], "the dealing")


def read_share(data: bytes) -> None:
    share_from_bytes(data, 4, (0, 3), "the share")


def read_message(data: bytes, rows: int, samples: int) -> None:
    decode(data, rows, (0, samples))
