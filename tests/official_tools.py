"""Official command lines, as they are, each in an environment of its own under build/."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from tests.integration.batches import CHECKOUT

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
