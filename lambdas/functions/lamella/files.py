"""A tree of files: what a prepared model is, wherever it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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
    outside = {".", ".."} & set(path.split("/"))
    if not path or path.startswith("/") or outside or "\\" in path or "\0" in path:
        raise InputError(f"file name {path!r} leaves its folder: use plain relative names")
    return path


def read_bounded(files: Files, path: str, most_bytes: int) -> bytes:
    """All of a file that is not larger than ``most_bytes``; no more of it is read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InputError
        If it is larger.
    """
    data = files.read(path, 0, most_bytes + 1)
    if len(data) > most_bytes:
        raise InputError(f"{files.location(path)} has more than {most_bytes >> 20} MiB")
    return data


@dataclass(frozen=True)
class Directory:
    """Files below a local directory."""

    root: Path

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        with self.path(path).open("rb") as file:
            file.seek(start)
            return file.read() if stop is None else file.read(stop - start)

    def path(self, path: str) -> Path:
        """Where a file is.

        Raises
        ------
        InputError
            If that is not in the directory, also where a link leads out of it.
        """
        inside = self.root / checked_path(path)
        try:
            leads_out = not inside.resolve().is_relative_to(self.root.resolve())
        except (OSError, RuntimeError):  # too long, or links in a circle
            leads_out = True
        if leads_out:
            raise InputError(f"{inside} leads out of its folder: copy the file itself there")
        return inside

    def location(self, path: str = "") -> str:
        return str(self.root / path)
