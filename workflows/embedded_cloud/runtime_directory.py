"""What Lambda has at /var/runtime: AWS's runtime client and the SDK, and nothing else of this machine."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from workflows.embedded_cloud.interpreters import Interpreter

RUNTIME_CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")
SDK = ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3")
_OWN_FILES = Path(__file__).parent / "runtime"


def build_runtime_directory(parent: Path, interpreter: Interpreter) -> Path:
    """Make (or find) the runtime directory of one interpreter under ``parent``.

    Packages are links into the running environment: only what is named here can be imported from it.

    Returns
    -------
    Path
        Holds ``bootstrap.py`` and the packages; goes on ``PYTHONPATH``.
    """
    directory = parent / f"python{interpreter.version}"
    if directory.is_dir():
        return directory
    building = parent / f".{directory.name}.{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for distribution in (*RUNTIME_CLIENT, *SDK):
        for name, source in _top_level_files(distribution):
            if source.suffix in (".so", ".pyd") and not interpreter.is_ours:
                continue  # extension modules load in one version of Python only
            (building / name).symlink_to(source)
    shutil.copy(_OWN_FILES / "bootstrap.py", building)
    if not interpreter.is_ours:
        shutil.copy(_OWN_FILES / "runtime_client.py", building)
    building.rename(directory)
    return directory


def _top_level_files(distribution: str) -> Iterator[tuple[str, Path]]:
    """Packages and modules that a distribution installs, without its metadata and scripts."""
    found = importlib.metadata.distribution(distribution)
    names = {PurePosixPath(file).parts[0] for file in found.files or []}
    for name in sorted(names):
        if name not in ("..", "__pycache__") and not name.endswith((".dist-info", ".egg-info")):
            yield name, Path(str(found.locate_file(name))).resolve()
