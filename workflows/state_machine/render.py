"""Write the state machine to ``workflows/inference.asl.json``, or check that it is what would be written.

``python -m workflows.state_machine.render [--check]``; the checked-in file is what template.yaml deploys, so
that deploying needs no ``stepfunctions`` SDK.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from workflows import rendered_file
from workflows.state_machine import RENDERED
from workflows.state_machine.inference import inference

_FIELD_ORDER = (
    "Comment",
    "ProcessorConfig",
    "StartAt",
    "Type",
    "Resource",
    "ItemsPath",
    "ItemReader",
    "ItemSelector",
    "MaxConcurrency",
    "ToleratedFailureCount",
    "Label",
    "Mode",
    "ExecutionType",
    "Variable",
    "IsString",
    "IsPresent",
    "ReaderConfig",
    "Parameters",
    "TimeoutSeconds",
    "ErrorEquals",
    "IntervalSeconds",
    "MaxAttempts",
    "BackoffRate",
    "MaxDelaySeconds",
    "JitterStrategy",
    "ResultPath",
    "OutputPath",
    "Choices",
    "Default",
    "Error",
    "ErrorPath",
    "Cause",
    "CausePath",
    "Retry",
    "Catch",
    "Next",
    "End",
    "ItemProcessor",
    "States",
)


def render() -> str:
    """The state machine as the file's text: fields in the order a reader expects, states in that of a run."""
    return json.dumps(_ordered(inference()), indent=2) + "\n"


def _ordered(value: object) -> object:
    """A part of the machine with its fields in order; names of states and of parameters stay in theirs."""
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: _field(name, value[name]) for name in sorted(value, key=_rank)}


def _field(name: str, value: object) -> object:
    if name in {"Parameters", "ItemSelector"}:
        return value
    if name == "States" and isinstance(value, dict):
        return {state: _ordered(body) for state, body in value.items()}
    return _ordered(value)


def _rank(name: str) -> tuple[int, str]:
    return (_FIELD_ORDER.index(name) if name in _FIELD_ORDER else len(_FIELD_ORDER), name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Render, or check; the exit code is 1 where the check finds a difference."""
    return rendered_file.command(
        RENDERED, render, arguments, prog="python -m workflows.state_machine.render", about=__doc__
    )


if __name__ == "__main__":
    sys.exit(main())
