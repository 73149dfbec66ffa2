"""Checking that a prepared model on disk is what its manifest says."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lamella.errors import InputError, ModelError
from lamella.files import Directory
from lamella.manifest import Manifest, read_manifest


def verify_files(directory: Path) -> Manifest:
    """Read a prepared model's manifest, and every file that it names.

    Raises
    ------
    ModelError
        If it is no prepared model, or a file is missing or not the one that was prepared; names the file.
    """
    files = Directory(directory)
    manifest = read_manifest(files)
    for name, stored in manifest.files.items():
        try:
            path = files.path(name)
        except InputError as error:
            raise ModelError(str(error)) from error
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise ModelError(
                f"{path} is missing: copy the model again, or make it with 'lamella prep'"
            ) from error
        except OSError as error:
            raise ModelError(f"can't read {path}: {error.strerror}") from error
        if digest != stored.sha256:
            size = path.stat().st_size
            what = (
                f"has {size} bytes instead of {stored.bytes}" if size != stored.bytes else "has other bytes"
            )
            raise ModelError(
                f"{path} {what} than when it was prepared (sha256 differs): "
                "copy the model again, or make it with 'lamella prep'"
            )
    return manifest
