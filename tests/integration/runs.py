"""Whole runs on a deployed stack, through Lamella's own client."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from safetensors.numpy import load_file

from lamella import client
from lamella.checkpoint import log_stream_of
from lamella.client import RunHandle, Stack
from lamella.events import RunRequest
from lamella.layout import RunKeys
from workflows.embedded_cloud import EmbeddedCloud

# What a run gets whose test is of something else than how it is planned.
PLAIN = {"strategy": "rows", "channel": "sns", "micro_batches": 1}


def begin(stack: Stack, model: Path | str, batch: Path | str, **fields: Any) -> RunHandle:
    """Upload what is local, and start; who names a strategy or workers leaves nothing to predictions."""
    if {"strategy", "workers"} & set(fields):
        fields = PLAIN | fields
    run = client.new_run(stack)
    client.start(
        run,
        RunRequest(
            model=model if isinstance(model, str) else client.upload_model(stack, model),
            input=batch if isinstance(batch, str) else client.upload_input(stack, batch),
            **fields,
        ),
    )
    return run


def outcome(handle: RunHandle) -> dict[str, Any]:
    """The execution once it has ended."""
    client.watch(handle, poll_s=0.05)
    return dict(handle.stack.clients.stepfunctions.describe_execution(executionArn=handle.execution_arn))


def activations(handle: RunHandle, output: Path) -> NDArray[np.float32]:
    """What a run that was asked for its activations gave: samples x outputs."""
    client.watch(handle, poll_s=0.05)
    client.fetch(handle, output)
    return load_file(output / "activations.safetensors")["activations"]


def history(handle: RunHandle) -> list[dict[str, Any]]:
    """Every event of the execution."""
    pages = handle.stack.clients.stepfunctions.get_paginator("get_execution_history").paginate(
        executionArn=handle.execution_arn
    )
    return [dict(event) for page in pages for event in page["events"]]


def summary(handle: RunHandle) -> dict[str, Any]:
    """What Finish wrote."""
    found: dict[str, Any] = json.loads(handle.stack.files().read(RunKeys(handle.run_id).summary))
    return found


def states_entered(handle: RunHandle) -> list[str]:
    """Names of the states entered, in order."""
    details = (event.get("stateEnteredEventDetails") for event in history(handle))
    return [detail["name"] for detail in details if detail]


def wait_for_workers(handle: RunHandle, count: int, seconds: float = 30, attempt: int = 1) -> None:
    """Until ``count`` workers of an attempt at a run have begun."""
    prefix = RunKeys(handle.run_id, attempt).checkpoint(0)[:-1]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if len(handle.stack.files().sizes(prefix)) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{count} workers did not meet in {seconds} s")


def held_slots(stack: Stack) -> dict[str, Any]:
    """The lease of the stack's slots; none if no run has leased any yet."""
    if not stack.files().exists("leases/slots.json"):
        return {}
    held: dict[str, Any] = json.loads(stack.files().read("leases/slots.json"))["slots"]
    return held


def process_of(cloud: EmbeddedCloud, handle: RunHandle, worker: int, attempt: int = 1) -> psutil.Process:
    """The process that runs a worker."""
    stream = log_stream_of(handle.stack.files().read(RunKeys(handle.run_id, attempt).checkpoint(worker)))
    for process in psutil.Process(cloud.pid).children(recursive=True):
        if process.environ().get("AWS_LAMBDA_LOG_STREAM_NAME") == stream:
            return process
    raise AssertionError(f"no process has log stream {stream}")


def assert_nothing_is_left(cloud: EmbeddedCloud, handle: RunHandle) -> None:
    """No lease, no message, and nothing that only workers needed."""
    stack = handle.stack
    assert not [hold for hold in held_slots(stack).values() if hold["run"] == handle.run_id]
    sqs = cloud.client("sqs")
    left = {}
    for url in sqs.list_queues(MaxResults=1000)["QueueUrls"]:
        counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        kinds = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        if any(counts[kind] != "0" for kind in kinds):
            left[url.rpartition("/")[2]] = [counts[kind] for kind in kinds]
    assert left == {}, left
    kept = stack.files(f"runs/{handle.run_id}/").sizes()
    assert not [name for name in kept if name.startswith("work/")]


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.1)
