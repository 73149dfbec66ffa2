"""What reads the bytes of others, called as its callers do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lamella.codec import decode
from lamella.dealing import parse_dealing
from lamella.inputs import read_batch
from lamella.memory_bound import bounded_memory, spare_bytes
from lamella.plan import parse_assignment
from lamella.shares import share_from_bytes
from model_prep.readers import open_source


def read_samples(data: bytes, name: str, features: int = 4, id_column: str | None = None) -> None:
    read_batch(data, name, features, None, id_column)


def read_samples_in_a_function(data: bytes, name: str, features: int = 4) -> None:
    """As Plan does, in as much memory as Lambda's variable says."""
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
