"""`lamella local`, opened as a user opens it: SAM CLI deploys a second stack beside its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from tests import official_tools
from tests.e2e.project import SOURCE, Project
from tests.integration import batches

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EXPORT = re.compile(r"^export (\w+)=(.*)$")
LAMELLA = official_tools.BIN / "lamella"


@pytest.fixture
def exported(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What `lamella local` says to export; at the end it is interrupted as by Ctrl-C."""
    process = subprocess.Popen(
        [LAMELLA, "local"],
        stdout=subprocess.PIPE,
        env={**os.environ, "LAMELLA_STATE_DIR": str(tmp_path / "state"), "PYTHONUNBUFFERED": "1"},
        text=True,
    )
    assert process.stdout is not None
    variables: dict[str, str] = {}
    try:
        for line in process.stdout:
            found = EXPORT.match(line.strip())
            if found:
                (variables[found[1]],) = shlex.split(found[2])
            elif line.startswith("Ctrl-C"):
                break
        yield variables
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_second_stack(exported: dict[str, str], built_here: Project, model: Path, tmp_path: Path) -> None:
    tools = replace(built_here.tools, cloud=exported)
    second = replace(built_here.built_copy(tmp_path / "second", "second"), tools=tools)
    second.deploy(SlotGroups="0")
    assert second.outputs()["GroupsOfSlots"] == "0"

    matrix = batches.blobs(400, 16, seed=6)
    batch = batches.write_npz(tmp_path / "blobs.npz", matrix)
    plain = plain_scipy(open_source(SOURCE), matrix)
    categories = int(np.count_nonzero(plain.any(axis=1)))
    for stack, workers in (("second", "2"), ("lamella", "4")):
        output = tmp_path / f"out-{stack}"
        command = [LAMELLA, "run", model, "--input", batch, "--workers", workers, "--output", output]
        done = subprocess.run(
            [*command, "--stack", stack, "--json"],
            env=tools.environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["categories"] == categories
        lines = (output / "predictions.csv").read_text().splitlines()[1:]
        assert [int(line.split(",")[1]) for line in lines] == plain.argmax(axis=1).tolist()
    machines = tools.asked("stepfunctions", "list-state-machines")["stateMachines"]
    assert {each["name"] for each in machines} == {"lamella-inference", "second-inference"}
    second.delete()
    stacks = tools.asked("cloudformation", "describe-stacks")["Stacks"]
    assert {each["StackName"] for each in stacks} == {"lamella", "aws-sam-cli-managed-default"}
