"""One run on a stack that is there: upload, start, watch, fetch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamella import client
from lamella.client import RunHandle, Stack
from lamella.errors import CloudError, InputError, LamellaError
from lamella.events import RunRequest
from lamella.layout import RunKeys
from lamella.manifest import Manifest
from workflows.cli.console import Output
from workflows.cli.progress import RunProgress, shown
from workflows.cli.tables import plan_line

# Seconds between two looks at the execution, and at the logs: a local cloud has no quotas, and short runs.
_LOCAL_POLL_S, _LOCAL_PROGRESS_S = 0.2, 0.5
_POLL_S, _PROGRESS_S = 0.5, 1.0


@dataclass(frozen=True)
class FinishedRun:
    """A run that succeeded.

    Attributes
    ----------
    answer
        What the run's execution answered, with ``outputs``: where the files are.
    """

    handle: RunHandle
    answer: dict[str, Any]


def place_model(stack: Stack, model: str, verified: Manifest | None = None) -> str:
    """S3 address of a model, which is uploaded if it is local; ``verified`` as `upload_model` takes it."""
    return model if model.startswith("s3://") else client.upload_model(stack, Path(model), verified)


def place_input(stack: Stack, path: str) -> str:
    """S3 address of the samples, which are uploaded if they are local."""
    return path if path.startswith("s3://") else client.upload_input(stack, Path(path))


def run_to_end(
    stack: Stack, request: RunRequest, output: Output, *, destination: Path | None, local: bool
) -> FinishedRun:
    """Run, showing progress; Ctrl-C stops the run.

    Parameters
    ----------
    destination
        Where to download the outputs to.
    local
        Whether the stack is an embedded cloud's.

    Raises
    ------
    LamellaError
        As `lamella.client.summary` and `lamella.client.fetch`.
    """
    handle = client.new_run(stack)
    try:
        client.start(handle, request)
        output.say(f"run {handle.run_id} started")
        watch_run(handle, output, local=local)
    except KeyboardInterrupt:
        _stop_quietly(handle)
        raise
    return FinishedRun(handle, answer_of(handle, destination))


def watch_run(handle: RunHandle, output: Output, *, local: bool) -> None:
    """Wait for a run's end, showing its progress."""
    progress = RunProgress(f"run {handle.run_id}")
    planned = _PlanLine(handle, output)
    with shown(progress, output):
        client.watch(
            handle,
            progress.apply if output.live else None,
            poll_s=_LOCAL_POLL_S if local else _POLL_S,
            progress_s=_LOCAL_PROGRESS_S if local else _PROGRESS_S,
            on_look=planned.look,
        )


@dataclass
class _PlanLine:
    """Says what was planned, once it is."""

    handle: RunHandle
    output: Output
    said: bool = False

    def look(self) -> None:
        if self.said:
            return
        try:
            record = json.loads(self.handle.stack.files().read(RunKeys(self.handle.run_id).plan))
        except (OSError, CloudError):
            return
        self.said = True
        self.output.say(plan_line(record))


def check_destination(output: Path | None) -> None:
    """Refuse to download into a file.

    Raises
    ------
    InputError
        If it is one.
    """
    if output is not None and output.exists() and not output.is_dir():
        raise InputError(f"--output {output} is a file: name a folder")


def answer_of(handle: RunHandle, destination: Path | None) -> dict[str, Any]:
    """What a run that has ended answered, with ``outputs``: where its files are.

    Raises
    ------
    LamellaError
        As `lamella.client.summary` and `lamella.client.fetch`.
    """
    answer = dict(client.summary(handle))
    if destination is not None:
        answer["outputs"] = [str(path) for path in client.fetch(handle, destination)]
    else:
        answer["outputs"] = [answer[name] for name in ("predictions", "activations") if answer.get(name)]
    for name in ("predictions", "activations"):
        answer.pop(name, None)
    return answer


def _stop_quietly(handle: RunHandle) -> None:
    try:
        client.stop(handle)
    except LamellaError:
        # It is being abandoned either way; an embedded cloud may be gone already.
        return
