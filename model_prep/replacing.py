"""A folder that is written whole or not at all, in place of the prepared model that was there."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lamella.errors import ModelError
from lamella.files import Directory
from lamella.manifest import MANIFEST, read_manifest

if TYPE_CHECKING:
    from pathlib import Path


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``out`` once it is complete.

    Raises
    ------
    ModelError
        If that can't be written, or holds something else than a prepared model.
    """
    out = out.expanduser().resolve()
    _check_replaceable(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
        fresh.mkdir()
    except OSError as error:
        raise ModelError(f"can't write to {out}: {error.strerror}") from error
    old = fresh.with_name(fresh.name + ".old")
    try:
        yield fresh
        _check_replaceable(out)
        if out.exists():
            out.rename(old)
        try:
            fresh.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise ModelError(f"can't write to {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_replaceable(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise ModelError(f"{out} is a file: choose a folder for the model")
    held = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    if not held:
        return
    if MANIFEST not in held:
        raise ModelError(f"{out} is not empty and not a prepared model: choose another folder")
    try:
        known = {MANIFEST, *read_manifest(Directory(out)).files}
    except ModelError as error:
        raise ModelError(f"{out} is not empty and not a prepared model: choose another folder") from error
    if held - known:
        raise ModelError(
            f"{out} holds {min(held - known)}, which is no part of the prepared model there: "
            "move it, or choose another folder"
        )
