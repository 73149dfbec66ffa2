"""Files of one matrix each, without a description: layers in natural order, ReLU, no bias."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from model_prep.readers.matrix_file import read_matrix
from model_prep.source import Source, SourceLayer, source_layer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Sorts layer2 before layer10."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts)), name


def open_files(name: str, paths: Iterable[Path]) -> Source:
    """The files as layers."""
    ordered = sorted(paths, key=lambda path: natural_key(path.name))

    def read(k: int) -> SourceLayer:
        where = f"{ordered[k]} (layer {k})"
        return source_layer(where, read_matrix(ordered[k], where))

    return Source(name, read(0).inputs, len(ordered), read)
