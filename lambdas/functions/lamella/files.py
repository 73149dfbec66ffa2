"""A tree of files: what a prepared model is, wherever it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from lamella.errors import InputError


class Files(Protocol):
    """A tree of immutable files."""

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes ``[start, stop)`` of one file, all of it by default.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        """
        ...

    def location(self, path: str = "") -> str:
        """The full name of a path, for messages."""
        ...


def checked_path(path: str) -> str:
    """``path`` if it stays inside its tree.

    Raises
    ------
    InputError
        If it is absolute, or climbs out.
    """
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts or "\\" in path or "\0" in path:
        raise InputError(f"file name {path!r} leaves its folder: use plain relative names")
    return path


@dataclass(frozen=True)
class Directory:
    """Files below a local directory."""

    root: Path

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        with (self.root / checked_path(path)).open("rb") as file:
            file.seek(start)
            return file.read() if stop is None else file.read(stop - start)

    def location(self, path: str = "") -> str:
        return str(self.root / path)
