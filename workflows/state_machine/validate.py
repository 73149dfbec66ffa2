"""Check the rendered state machine with asl-validator (npm), its substitutions filled in.

``python -m workflows.state_machine.validate VALIDATOR``, VALIDATOR being the installed command; it catches
what cfn-lint doesn't: states that can't be reached, paths that are none, fields that a state doesn't have.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from workflows.state_machine import RENDERED

_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
_TIMEOUT_S = 60.0


def filled(definition: str) -> str:
    """The definition with a plausible value for each of its substitutions."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name.endswith("FunctionArn"):
            return f"arn:aws:lambda:us-east-1:123456789012:function:{name.removesuffix('FunctionArn')}"
        return {"Partition": "aws", "Bucket": "a-bucket"}[name]

    return _PLACEHOLDER.sub(value, definition)


def findings(validator: Path, definition: str) -> str:
    """What asl-validator has against a definition; empty if nothing.

    Raises
    ------
    OSError
        If the validator can't be run.
    subprocess.TimeoutExpired
        If it does not end.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "definition.asl.json")
        path.write_text(filled(definition), encoding="utf-8")
        done = subprocess.run(  # noqa: S603 - a command of this repository's own choosing
            [str(validator), "--json-path", str(path)],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    return (done.stdout + done.stderr).strip() if done.returncode else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Validate; the exit code is 1 where anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m workflows.state_machine.validate", description=__doc__)
    parser.add_argument("validator", type=Path)
    found = findings(parser.parse_args(arguments).validator, RENDERED.read_text(encoding="utf-8"))
    if found:
        sys.stderr.write(found + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
