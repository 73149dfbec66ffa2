"""Samples to infer: read from a file's bytes, checked against the model, held by feature.

All files are samples x features. Values become float32, rounded to nearest; what no float32 can hold is
refused.
"""

from __future__ import annotations

from collections.abc import Callable

from lamella.errors import BatchError
from lamella.inputs.arrays import read_npy, read_safetensors, read_sparse_npz
from lamella.inputs.batch import MAX_SAMPLES, Batch
from lamella.inputs.graph_challenge import read_graph_challenge
from lamella.inputs.ids import MAX_ID_CHARACTERS
from lamella.inputs.parquet import read_parquet
from lamella.inputs.table import read_csv

__all__ = ["SUFFIXES", "Batch", "check_id_column", "known_suffix", "read_batch"]

# Files whose columns have names, of which one may be ids.
_TABLES: dict[str, Callable[[bytes, str, int, int | None, str | None], Batch]] = {
    ".csv": read_csv,
    ".parquet": read_parquet,
}
_READERS: dict[str, Callable[[bytes, str, int, int | None], Batch]] = {
    ".tsv": read_graph_challenge,
    ".tsv.gz": read_graph_challenge,
    ".npy": read_npy,
    ".npz": read_sparse_npz,
    ".safetensors": read_safetensors,
}
SUFFIXES = (*_READERS, *_TABLES)


def known_suffix(name: str) -> str:
    """The suffix of ``name`` that says its format.

    Raises
    ------
    BatchError
        If it says none that Lamella reads.
    """
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return suffix
    raise BatchError(f"{name} is no input format Lamella knows: use {', '.join(SUFFIXES)}")


def read_batch(
    data: bytes, name: str, features: int, samples: int | None = None, id_column: str | None = None
) -> Batch:
    """Parse a file of samples for a model of ``features`` inputs.

    Parameters
    ----------
    data, name
        The file's bytes, and what to call it in messages; its suffix says the format.
    samples
        How many samples there are: for Graph Challenge files, whose last samples may be all zero and so in no
        line. Of other files it is only checked.
    id_column
        Name of the column of a table that holds each sample's id, and no feature.

    Raises
    ------
    BatchError
        If the file can't be read or doesn't fit the model.
    """
    suffix = known_suffix(name)
    check_id_column(name, id_column)
    if samples is not None and not 1 <= samples <= MAX_SAMPLES:
        raise BatchError(f"a run of {samples:,} samples can't be: give 1 to {MAX_SAMPLES:,}, or leave it out")
    if not data:
        raise BatchError(f"{name} is empty: give at least one sample")
    if suffix in _TABLES:
        return _TABLES[suffix](data, name, features, samples, id_column)
    return _READERS[suffix](data, name, features, samples)


def check_id_column(name: str, id_column: str | None) -> None:
    """Refuse a column of ids where columns have no names.

    Raises
    ------
    BatchError
        If that is so, or as `known_suffix`.
    """
    suffix = known_suffix(name)
    if id_column is not None and len(id_column) > MAX_ID_CHARACTERS:
        raise BatchError(f"a column of {len(id_column):,} characters can't be in {name}: correct id_column")
    if id_column is not None and suffix not in _TABLES:
        raise BatchError(
            f"{name} has no column {id_column!r}: ids are in a {' or '.join(_TABLES)}; leave id_column out"
        )
