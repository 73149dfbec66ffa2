"""The official AWS command line, as it is, against `lamella local`."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from tests import official_tools
from tests.integration import batches


@pytest.fixture(scope="session")
def aws() -> Path:
    """The command `aws`, installed once."""
    return official_tools.install(official_tools.AWS_CLI) / "aws"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What `lamella local --json` says once it is open; at the end it is interrupted as by Ctrl-C."""
    home = tmp_path_factory.mktemp("home")
    process = subprocess.Popen(
        [official_tools.BIN / "lamella", "local", "--json"],
        stdout=subprocess.PIPE,
        env={**os.environ, "LAMELLA_STATE_DIR": str(home)},
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def test_an_execution_started_by_hand_gives_exact_predictions(
    aws: Path, local: dict[str, Any], small_model: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, **local["environment"], "AWS_PAGER": ""}

    def call(*arguments: str | Path) -> str:
        done = subprocess.run(
            [aws, *arguments], env=environment, check=True, capture_output=True, text=True, timeout=120
        )
        return done.stdout

    matrix = batches.blobs(400, 16)
    batch = batches.write_npz(tmp_path / "blobs.npz", matrix)
    bucket = f"s3://{local['bucket']}"
    call("s3", "cp", "--recursive", small_model, f"{bucket}/models/mine/")
    call("s3", "cp", batch, f"{bucket}/inputs/blobs.npz")
    request = {"model": f"{bucket}/models/mine/", "input": f"{bucket}/inputs/blobs.npz"}
    machine = local["state_machine_arn"]
    started = json.loads(
        call(
            "stepfunctions", "start-execution", "--state-machine-arn", machine, "--input", json.dumps(request)
        )
    )
    until = time.monotonic() + 60
    while True:
        arguments = ("stepfunctions", "describe-execution", "--execution-arn", started["executionArn"])
        execution = json.loads(call(*arguments))
        if execution["status"] != "RUNNING" or time.monotonic() > until:
            break
    assert execution["status"] == "SUCCEEDED", execution
    summary = json.loads(execution["output"])
    text = call("s3", "cp", summary["predictions"], "-")
    rows = list(csv.DictReader(io.StringIO(text)))
    plain = plain_scipy(open_source("radixnet:256x24"), matrix)
    assert [int(row["argmax"]) for row in rows] == plain.argmax(axis=1).tolist()
    assert [int(row["nonzero"]) for row in rows] == np.count_nonzero(plain, axis=1).tolist()
    report = json.loads(call("s3", "cp", summary["report"], "-"))
    assert report["cost_usd"] == summary["cost_usd"]
    assert report["seconds"] == summary["seconds"]
    assert len(report["workers_detail"]) == summary["workers"]
