"""What `sam build` and `sam package` do: folders, built where a template says so, become archives."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workflows.embedded_cloud.errors import EmbeddedCloudError

_EPOCH = (1980, 1, 1, 0, 0, 0)
_SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
_OUTPUT_LINES = 15


@dataclass(frozen=True)
class BuildTarget:
    """What a folder is built for.

    Attributes
    ----------
    logical_id
        Of the resource; the make target is ``build-<logical_id>``.
    method
        "makefile", "python3.x" (requirements.txt), or None: the folder as it is.
    is_layer
        Layers have their packages under ``python/``.
    """

    logical_id: str
    method: str | None
    runtime: str
    architecture: str
    is_layer: bool


def archive_folder(folder: Path, target: BuildTarget, cache_dir: Path) -> Path:
    """Return the zip archive of a folder, built if the target says so; unchanged folders are not built again.

    Raises
    ------
    EmbeddedCloudError
        If the folder does not exist, or its build fails.
    """
    if not folder.is_dir():
        raise EmbeddedCloudError(f"{target.logical_id}: no such folder: {folder}")
    method = target.method or ("python" if _has_requirements(folder) and not target.is_layer else None)
    identity = repr((target.logical_id, method, target.runtime, target.architecture)) if method else ""
    archive = cache_dir / "archives" / f"{tree_digest(folder, identity)}.zip"
    if archive.is_file():
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    if method is None:
        _write_archive(folder, archive)
        return archive
    artifacts = cache_dir / f"building-{target.logical_id}-{os.getpid()}"
    shutil.rmtree(artifacts, ignore_errors=True)
    artifacts.mkdir(parents=True)
    try:
        if method == "makefile":
            _make(folder, target, artifacts)
        else:
            _install_requirements(folder, target, artifacts)
        _write_archive(artifacts, archive)
    finally:
        shutil.rmtree(artifacts, ignore_errors=True)
    return archive


def tree_digest(folder: Path, identity: str = "") -> str:
    """Return the sha256 of a folder's names, modes and contents."""
    digest = hashlib.sha256(identity.encode())
    for path in _files(folder):
        executable = os.access(path, os.X_OK)
        digest.update(f"\0{path.relative_to(folder).as_posix()}\0{executable}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        for name in sorted(names):
            if not name.endswith((".pyc", ".pyo")):
                yield Path(root, name)


def _write_archive(folder: Path, archive: Path) -> None:
    """Write a zip that depends on nothing but the files: fixed order, dates and modes."""
    partial = archive.with_suffix(f".{os.getpid()}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
        for path in _files(folder):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if os.access(path, os.X_OK) else 0o644) << 16
            with path.open("rb") as source, opened.open(entry, "w") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    partial.rename(archive)


def _has_requirements(folder: Path) -> bool:
    requirements = folder / "requirements.txt"
    if not requirements.is_file():
        return False
    lines = (line.split("#")[0].strip() for line in requirements.read_text().splitlines())
    return any(lines)


def _make(folder: Path, target: BuildTarget, artifacts: Path) -> None:
    """Run the target as SAM CLI does: make build-ID in the folder, ARTIFACTS_DIR in the environment."""
    environment = {
        **os.environ,
        "ARTIFACTS_DIR": str(artifacts.resolve()),
        "LAMBDA_RUNTIME": target.runtime,
        "LAMBDA_ARCHITECTURE": target.architecture,
        "PYTHON": sys.executable,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    for inherited in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # of a make that runs this
        environment.pop(inherited, None)
    _run(["make", "--no-print-directory", f"build-{target.logical_id}"], folder, environment, target)


def _install_requirements(folder: Path, target: BuildTarget, artifacts: Path) -> None:
    packages = artifacts / "python" if target.is_layer else artifacts
    if not target.is_layer:
        shutil.copytree(
            folder, artifacts, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_SKIPPED_FOLDERS)
        )
    requirements = folder / "requirements.txt"
    version = target.runtime.removeprefix("python")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", str(packages), "--requirement", str(requirements)]
    command += ["--python-version", version, "--only-binary", ":all:"]
    _run(command, folder, dict(os.environ), target)


def _run(command: list[str], folder: Path, environment: dict[str, str], target: BuildTarget) -> None:
    try:
        result = subprocess.run(  # noqa: S603
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except OSError as error:
        raise EmbeddedCloudError(f"{target.logical_id}: cannot run {command[0]}: {error}") from error
    if result.returncode:
        output = "\n".join((result.stdout + result.stderr).strip().splitlines()[-_OUTPUT_LINES:])
        raise EmbeddedCloudError(f"{target.logical_id}: `{' '.join(command)}` in {folder} failed:\n{output}")
