"""Write the JSON schema of an execution's input, ``workflows/run-request.schema.json``, or check it.

``python -m workflows.request_schema [--check]``; its source is the pydantic model that Plan parses by.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic.json_schema import GenerateJsonSchema

from lamella.events import RunRequest
from workflows import rendered_file

SCHEMA = Path(__file__).with_name("run-request.schema.json")


class _Untitled(GenerateJsonSchema):
    """Leaves out a title for each field, which would only be its name again."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002
        return False


def render() -> str:
    """The schema as the file's text."""
    schema = RunRequest.model_json_schema(schema_generator=_Untitled)
    about = {"$schema": _Untitled.schema_dialect, "title": "Input of a Lamella run"}
    return json.dumps(about | schema | about, indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Render, or check; the exit code is 1 where the check finds a difference."""
    return rendered_file.command(
        SCHEMA, render, arguments, prog="python -m workflows.request_schema", about=__doc__
    )


if __name__ == "__main__":
    sys.exit(main())
