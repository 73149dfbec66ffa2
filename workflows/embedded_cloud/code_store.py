"""Deployment packages, unzipped once per content."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import threading
import zipfile
from pathlib import Path

from workflows.embedded_cloud.errors import EmbeddedCloudError

UNZIPPED_LIMIT_BYTES = 262_144_000
"""Of a function with its layers: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""


class CodeStore:
    """Unzips archives into directories named by their sha256, shared by everything that has the same content.

    Parameters
    ----------
    directory
        Where to; may outlive the cloud, so that the next one finds its layers unzipped and byte-compiled.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()

    def unzip(self, archive: bytes, digest: str | None = None) -> Path:
        """Return the directory that holds the content of a zip archive.

        Parameters
        ----------
        archive
            The zip file.
        digest
            Its sha256 in hexadecimal, where the caller knows it.

        Raises
        ------
        EmbeddedCloudError
            If it is not a zip archive, or larger than Lambda allows.
        """
        target = self._directory / (digest or hashlib.sha256(archive).hexdigest())
        with self._lock:
            if not target.is_dir():
                self._extract(archive, target)
        return target

    def _extract(self, archive: bytes, target: Path) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        building = self._directory / f".{target.name[:16]}.{os.getpid()}"
        shutil.rmtree(building, ignore_errors=True)
        try:
            with zipfile.ZipFile(io.BytesIO(archive)) as opened:
                size_bytes = sum(entry.file_size for entry in opened.infolist())
                if size_bytes > UNZIPPED_LIMIT_BYTES:
                    raise EmbeddedCloudError(
                        f"Unzipped size must be smaller than {UNZIPPED_LIMIT_BYTES} bytes; it is {size_bytes}"
                    )
                opened.extractall(building)
                _restore_modes(opened, building)
        except zipfile.BadZipFile as error:
            raise EmbeddedCloudError("Could not unzip uploaded file: it is not a zip archive") from error
        try:
            building.rename(target)
        except OSError:  # another cloud that shares the directory was first
            shutil.rmtree(building, ignore_errors=True)


def _restore_modes(archive: zipfile.ZipFile, directory: Path) -> None:
    """Zipfile drops permissions; programs in a package must stay executable."""
    for entry in archive.infolist():
        mode = (entry.external_attr >> 16) & 0o777
        if mode & 0o111 and not entry.is_dir():
            (directory / entry.filename).chmod(mode)
