"""One matrix, or vector, in a file: Matrix Market, scipy's .npz, numpy's .npy."""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.io
from scipy import sparse

from lamella.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".mtx", ".mtx.gz", ".npz", ".npy")


def is_matrix(path: Path) -> bool:
    """Whether the name says that this can be read here."""
    return path.name.endswith(SUFFIXES)


def read_matrix(path: Path) -> object:
    """A scipy sparse matrix or a numpy array, as the file has it.

    Raises
    ------
    ModelError
        If there is no such file, or it isn't what its name says.
    """
    try:
        if path.name.endswith(".npz"):
            return sparse.load_npz(path)
        if path.name.endswith(".npy"):
            return np.load(path, mmap_mode="r", allow_pickle=False)
        return scipy.io.mmread(path)
    except FileNotFoundError as error:
        raise ModelError(f"there is no {path}: restore it, or name another file") from error
    except (
        OSError,
        EOFError,
        KeyError,
        NotImplementedError,
        OverflowError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        kind = {".npz": "scipy sparse .npz", ".npy": ".npy"}.get(path.suffix, "Matrix Market")
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path} is not a {kind} file of numbers ({reason}): write it again") from error


def read_vector(path: Path) -> object:
    """The same, dense."""
    found: Any = read_matrix(path)
    return found.toarray() if hasattr(found, "toarray") else found
