"""Which interpreter on this machine stands in for a Lambda runtime."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workflows.embedded_cloud.errors import InterpreterNotFoundError

_RUNTIME = re.compile(r"python(3\.\d+)")
_PROBE = "import sys; print('%d.%d' % sys.version_info[:2], getattr(sys, '_base_executable', sys.executable))"
_PROBE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Interpreter:
    """A Python that really runs.

    Attributes
    ----------
    version
        Major and minor, "3.11".
    executable
        Absolute path, outside any virtual environment.
    """

    version: str
    executable: Path

    @property
    def is_ours(self) -> bool:
        """Whether extension modules of the running interpreter load in it."""
        return self.version == running_version()


def running_version() -> str:
    """Major and minor version of the running Python."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@functools.lru_cache(maxsize=64)
def find_interpreter(runtime: str) -> Interpreter:
    """Find the interpreter that a Lambda ``Runtime`` names.

    Parameters
    ----------
    runtime
        A Lambda runtime identifier, such as "python3.11".

    Raises
    ------
    InterpreterNotFoundError
        If the runtime is not a Python, or no such Python runs on this machine.
    """
    match = _RUNTIME.fullmatch(runtime)
    if match is None:
        raise InterpreterNotFoundError(
            f"Runtime {runtime!r}: the embedded cloud runs functions of python3.x runtimes only"
        )
    version = match[1]
    for candidate in _candidates(version):
        found = _probe(candidate, version)
        if found is not None:
            return found
    raise InterpreterNotFoundError(
        f"Runtime {runtime!r}: no Python {version} runs on this machine; "
        f"install it, or deploy with the runtime of this Python, python{running_version()}"
    )


def _candidates(version: str) -> Iterator[Path]:
    if version == running_version():
        yield Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    name = f"python{version}"
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        found = shutil.which(name, path=directory)
        if found:
            yield Path(found)
    pyenv_root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv_root.glob(f"versions/{version}.*/bin/{name}"), reverse=True)
    yield from sorted(
        Path.home().glob(f".local/share/uv/python/cpython-{version}.*/bin/{name}"), reverse=True
    )


def _probe(candidate: Path, version: str) -> Interpreter | None:
    """Run a candidate: a pyenv shim, for one, exists for versions that are not selected and then fails."""
    try:
        answer = subprocess.run(  # noqa: S603
            [str(candidate), "-S", "-E", "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        ).stdout.split(maxsplit=1)
    except (OSError, subprocess.SubprocessError):
        return None
    if len(answer) != 2 or answer[0] != version:
        return None
    return Interpreter(version, Path(os.path.realpath(answer[1].strip())))
