"""Official command lines, as they are, each in an environment of its own under build/, and other Pythons."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from tests.integration.batches import CHECKOUT
from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.interpreters import find_interpreter

BIN = Path(sys.executable).parent
AWS_CLI = ("awscli", "awscli>=1.40,<2")
SAM_CLI = ("samcli", "aws-sam-cli>=1.170,<2")


def install(tool: tuple[str, str]) -> Path:
    """Return the folder of a tool's commands; it is installed once."""
    name, requirement = tool
    home = CHECKOUT / "build" / name
    ready = home / f".{requirement}"
    if not ready.exists():
        venv.create(home, clear=True)
        python = str(home / "bin" / "python")
        subprocess.run([BIN / "uv", "pip", "install", "--quiet", "--python", python, requirement], check=True)
        ready.touch()
    return home / "bin"


def python_on_path(version: str) -> str:
    """Return a PATH on which the embedded cloud finds a Python, which is installed where none runs here."""
    inherited = os.environ.get("PATH", os.defpath)
    home = CHECKOUT / "build" / "pythons"
    if not list(home.glob(f"cpython-{version}*")):
        try:
            find_interpreter(f"python{version}")
            return inherited
        except EmbeddedCloudError:
            install_python = [BIN / "uv", "python", "install", "--no-bin", "--install-dir", home, version]
            subprocess.run(install_python, check=True)
    return os.pathsep.join([*(str(each / "bin") for each in home.glob(f"cpython-{version}*")), inherited])
