"""What a function writes to its log: a JSON object a line, with the keys of its invocation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FUNCTIONS = Path(__file__).parents[3] / "lambdas" / "functions"
# As awslambdaric calls a handler, after it has set logging up.
SCRIPT = """
import logging, threading, warnings
from types import SimpleNamespace
from awslambdaric.bootstrap import StandardLogSink, _setup_logging
from awslambdaric.lambda_runtime_log_utils import LogFormat
_setup_logging(LogFormat.JSON, "INFO", StandardLogSink())
import boto3
from lamella.errors import ModelError
from lamella.runtime import Runtime

runtime = Runtime()
context = SimpleNamespace(
    memory_limit_in_mb="1024", log_stream_name="s", aws_request_id="q-1",
    get_remaining_time_in_millis=lambda: 1000,
)

@runtime.logged
def handler(event, context):
    if "run" not in event:
        raise ModelError("no\\nrun in \\x1b[31m the event")
    runtime.begin(context, run=event["run"], attempt=1, worker=3)
    runtime.logger.append_keys(layer=7)
    runtime.logger.info("own", done=1)
    logging.getLogger("lamella.mailbox").warning("dropped %d bytes", 5)
    logging.getLogger("botocore.retries").warning("retry")
    logging.getLogger("botocore.credentials").info("Found credentials")
    warnings.warn("slow kernel", RuntimeWarning)
    thread = threading.Thread(target=lambda: 1 // 0, name="weights")
    thread.start()
    thread.join()
    raise ValueError("broken")

for event in ({"run": "r1"}, {}):
    try:
        handler(event, context)
    except Exception:
        pass
print(__import__("json").dumps({"last": runtime.last_lines}))
"""


@pytest.fixture(scope="module")
def written() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every line, and those that the function itself had kept of its last invocation."""
    keys = ("PATH", "HOME")
    environment = {name: os.environ[name] for name in keys if name in os.environ} | {
        "PYTHONPATH": str(FUNCTIONS),
        "LAMELLA_BUCKET": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stderr == ""
    *lines, last = [json.loads(line) for line in done.stdout.splitlines()]
    return lines, [json.loads(line) for line in last["last"]]


def test_everything_is_json_with_the_keys_of_the_invocation(
    written: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    lines = written[0]
    assert len(lines) == 7
    for line in lines[:-1]:
        assert [line[key] for key in ("run", "attempt", "worker", "layer", "request_id")] == [
            "r1",
            1,
            3,
            7,
            "q-1",
        ]
    messages = [str(line["message"]) for line in lines]
    assert messages[:3] == ["own", "dropped 5 bytes", "retry"]
    assert "RuntimeWarning: slow kernel" in messages[3]
    assert messages[4].startswith("thread weights failed")
    assert messages[5] == "broken"


def test_an_error_is_told_with_its_traceback_unless_it_is_one_of_ours(
    written: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    broken, refused = written[0][-2:]
    assert (broken["level"], broken["error"]) == ("ERROR", "ValueError")
    assert 'raise ValueError("broken")' in broken["exception"] or "ValueError: broken" in broken["exception"]
    assert (refused["error"], "exception" in refused) == ("ModelError", False)


def test_an_event_that_is_not_read_has_no_keys_of_the_one_before(
    written: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    lines, last = written
    assert not {"run", "worker", "layer"} & set(lines[-1])
    assert lines[-1]["request_id"] == "q-1"
    assert last == lines[-1:]


def test_every_handler_logs_its_errors() -> None:
    handlers = [path for path in FUNCTIONS.glob("*.py") if "runtime = Runtime()\n" in path.read_text()]
    assert {"plan", "worker", "collect", "finish", "intake"} <= {path.stem for path in handlers}
    for path in handlers:
        text = path.read_text()
        # Cleanup's is made, and its errors are logged, inside its answer to CloudFormation.
        if path.stem != "cleanup":
            assert text.count("@runtime.logged\ndef handler(") == 1, path.name
