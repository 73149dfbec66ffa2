"""One matrix, or vector, in a file: Matrix Market, scipy's .npz, numpy's .npy."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.io
from scipy import sparse

from lamella.errors import ModelError
from model_prep.readers.bounds import check_fits

if TYPE_CHECKING:
    from pathlib import Path

_PIECE_BYTES = 16 << 20
_VALUE_BYTES = 8
_ENTRY_BYTES = 16  # row, column and value
SUFFIXES = (".mtx", ".mtx.gz", ".npz", ".npy")


def is_matrix(path: Path) -> bool:
    """Whether the name says that this can be read here."""
    return path.name.endswith(SUFFIXES)


def read_matrix(path: Path, where: str = "") -> object:
    """A scipy sparse matrix or a numpy array, as the file has it.

    Parameters
    ----------
    where
        What to call the file in messages: its layer too; its path by default.

    Raises
    ------
    ModelError
        If there is no such file, or it isn't what its name says.
    """
    where = where or str(path)
    try:
        _check_size(path, where)
        if path.name.endswith(".npz"):
            return sparse.load_npz(path)
        if path.name.endswith(".npy"):
            return np.load(path, mmap_mode="r", allow_pickle=False)
        return _read_matrix_market(path)
    except FileNotFoundError as error:
        raise ModelError(f"there is no {path}: restore it, or name another file") from error
    except (
        OSError,
        EOFError,
        KeyError,
        NotImplementedError,
        OverflowError,
        RecursionError,
        SyntaxError,
        TokenError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        kind = {".npz": "scipy sparse .npz", ".npy": ".npy"}.get(path.suffix, "Matrix Market")
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason or "Python objects" in reason:
            reason = "it holds Python objects, which are never loaded"
        raise ModelError(f"{where} is not a {kind} file of numbers ({reason}): write it again") from error
    except MemoryError as error:
        raise ModelError(
            f"{where} needs more memory than there is: split the layer, or write it again"
        ) from error


def _read_matrix_market(path: Path) -> object:
    """As scipy reads it, whose parser leaves its memory at a zero byte, or a last line without end."""
    last = b""
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            if b"\0" in piece:
                raise ValueError("it holds bytes that are no text")
            last = piece[-1:]
        if last == b"\n":
            return scipy.io.mmread(path)
        stream.seek(0)
        return scipy.io.mmread(io.BytesIO(stream.read() + b"\n"))


def _check_size(path: Path, where: str) -> None:
    """Refuse a file that says of itself that it can't be held, before it is read.

    Raises
    ------
    ModelError
        If its numbers would take more memory than this machine has.
    """
    if path.name.endswith(".npz"):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    elif path.name.endswith(".npy"):
        return  # mapped, not read
    else:
        rows, columns, entries, layout, *_ = scipy.io.mminfo(path)
        size = rows * columns * _VALUE_BYTES if layout == "array" else entries * _ENTRY_BYTES
    check_fits(where, size)


def read_vector(path: Path, where: str = "") -> object:
    """The same, dense."""
    found: Any = read_matrix(path, where)
    return found.toarray() if hasattr(found, "toarray") else found
