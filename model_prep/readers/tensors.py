"""The tensors of a .safetensors file, read one at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from lamella.errors import ModelError
from lamella.numbers import BFLOAT16

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Tensors:
    """The tensors of a .safetensors file, read one at a time."""

    path: Path
    names: frozenset[str]
    metadata: dict[str, str]

    def read(self, name: str) -> NDArray[Any]:
        """One tensor; bfloat16 as `lamella.numbers.BFLOAT16`.

        Raises
        ------
        ModelError
            If there is none of that name, or numpy has no such type.
        """
        if name not in self.names:
            raise ModelError(f"{self.path} holds no tensor {name!r}: name one of {_some(self.names)}")
        with safe_open(self.path, framework="numpy") as file:
            dtype = file.get_slice(name).get_dtype()
            if dtype == "BF16":
                return self._bfloat16(name)
            try:
                return np.asarray(file.get_tensor(name))
            except (AttributeError, KeyError, SafetensorError, TypeError, ValueError) as error:
                raise ModelError(
                    f"{self.path}: tensor {name!r} is {dtype}: store it as F32, F16, BF16, or F64"
                ) from error

    def _bfloat16(self, name: str) -> NDArray[Any]:
        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(length))[name]
            start, stop = entry["data_offsets"]
            file.seek(8 + length + start)
            return np.frombuffer(file.read(stop - start), BFLOAT16).reshape(entry["shape"])


def open_tensors(path: Path) -> Tensors:
    """Open a .safetensors file.

    Raises
    ------
    ModelError
        If there is none, or it is damaged.
    """
    if not path.is_file():
        raise ModelError(f"there is no {path}: restore it, or name the tensors' file model.safetensors")
    try:
        with safe_open(path, framework="numpy") as file:
            return Tensors(path, frozenset(file.keys()), file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is not a whole .safetensors file ({error}): copy or export it again"
        ) from error


def _some(names: frozenset[str]) -> str:
    shown = sorted(names)[:5]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
