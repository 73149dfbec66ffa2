"""What every state's function does in these tests: record its event, then act as the run's script says.

A script is `scripts/RUN.json` in the bucket: by state (and worker: "worker 1"), an action, {"raise": [CLASS,
TEXT]}, {"exit": STATUS}, {"sleep_s": SECONDS}, {"meet": NUMBER of workers to wait for} or {"answer": FIELDS
that differ}; or none. What "worker" says is for each worker that is not named, and what "worker 1 of attempt
2" does for that attempt alone.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import boto3

MEET_S = 90
BUCKET = os.environ["LAMELLA_BUCKET"]
s3 = boto3.client("s3")


def meet(run: str, workers: int) -> None:
    """Wait until so many workers of the run have begun."""
    until_s = time.monotonic() + MEET_S
    while workers:
        calls = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"calls/{run}/worker ")["KeyCount"]
        if calls >= workers:
            return
        if time.monotonic() > until_s:
            raise TimeoutError(f"{calls} of {workers} workers had begun after {MEET_S} s")
        time.sleep(0.5)


def act(state: str, event: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    """Record the call, then do as the script says."""
    run = event["run"]
    called = {"state": state, "event": event, "function": os.environ["AWS_LAMBDA_FUNCTION_NAME"]}
    s3.put_object(
        Bucket=BUCKET, Key=f"calls/{run}/{state} {time.time_ns()}-{os.getpid()}", Body=json.dumps(called)
    )
    try:
        script = json.loads(s3.get_object(Bucket=BUCKET, Key=f"scripts/{run}.json")["Body"].read())
    except s3.exceptions.NoSuchKey:
        script = {}
    of_attempt = f"{state} of attempt {event.get('attempt')}"
    action = script.get(of_attempt, script.get(state, script.get(state.split()[0], {})))
    meet(run, action.get("meet", 0))
    time.sleep(action.get("sleep_s", 0))
    if "exit" in action:
        os._exit(action["exit"])
    if "raise" in action:
        name, text = action["raise"]
        raise type(name, (Exception,), {})(text)
    answer: dict[str, Any] = action.get("answer", {})
    return default | answer
