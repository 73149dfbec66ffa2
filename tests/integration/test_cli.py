"""The command as a user runs it: real processes, the embedded cloud, the checkout's template."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.sparse import csr_array, save_npz

from lamella.client import Clients, Stack
from model_prep.readers import open_source
from model_prep.reference import plain_scipy

COMMAND = Path(sys.executable).with_name("lamella")
NETWORK = "alive:64x6"
SAMPLES, FEATURES = 50, 64
FILES = ("predictions.csv", "activations.safetensors", "report.html")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    """The user's, but for what would lead the command elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LAMELLA_"))}
    kept.pop("PYTHONUNBUFFERED", None)
    return kept | {"LAMELLA_STATE_DIR": str(folder / "state")}


@pytest.fixture(scope="module")
def lamella(environment: dict[str, str], folder: Path) -> Run:
    def call(*args: object, state: Path | None = None) -> subprocess.CompletedProcess[str]:
        own = environment | ({"LAMELLA_STATE_DIR": str(state)} if state else {})
        command = [str(COMMAND), *(str(arg) for arg in args)]
        return subprocess.run(
            command, env=own, cwd=folder, capture_output=True, text=True, timeout=200, check=False
        )

    return call


@pytest.fixture(scope="module")
def model(lamella: Run, folder: Path) -> Path:
    assert lamella("prep", NETWORK, "--out", folder / "model").returncode == 0
    return folder / "model"


@pytest.fixture(scope="module", autouse=True)
def batch(folder: Path) -> csr_array[Any, tuple[int, int]]:
    """What is in samples.npz, which is there for every test."""
    draw = np.random.default_rng(3)
    dense = np.where(draw.random((SAMPLES, FEATURES)) < 0.3, draw.random((SAMPLES, FEATURES)), 0)
    matrix = csr_array(dense.astype(np.float32))
    save_npz(folder / "samples.npz", matrix)
    return matrix


@pytest.fixture(scope="module")
def expected(batch: csr_array[Any, tuple[int, int]]) -> NDArray[np.uint32]:
    """The bits that plain scipy gives."""
    return plain_scipy(open_source(NETWORK), batch).view(np.uint32)


@pytest.fixture(scope="module")
def opened(environment: dict[str, str], folder: Path) -> Iterator[dict[str, Any]]:
    """What ``lamella local --json`` says; the cloud is open meanwhile, and gone without a trace after."""
    process = subprocess.Popen(
        [str(COMMAND), "local", "--json"], env=environment, cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    cloud: dict[str, Any] = json.loads(process.stdout.readline())
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    yield cloud
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert process.stdout.read() == ""
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert list((folder / "state").iterdir()) == []
    assert not Path(cloud["log_dir"]).exists()


def bits(path: Path) -> NDArray[np.uint32]:
    return load_file(path)["activations"].view(np.uint32)


def test_run_in_a_cloud_of_its_own(
    lamella: Run, model: Path, folder: Path, expected: NDArray[np.uint32], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--strategy", "rows", "--workers", 4, "--channel", "sns", "--output", out, "--json")
    # Another state directory: an open cloud is not to be found.
    done = lamella("run", model, "--input", folder / "samples.npz", *options, state=tmp_path / "state")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    answer = json.loads(done.stdout)
    assert (answer["status"], answer["strategy"], answer["channel"]) == ("SUCCEEDED", "rows", "sns")
    assert (answer["workers"], answer["samples"]) == (4, SAMPLES)
    assert answer["seconds"].keys() == {"total", "waited", "prepare", "infer"}
    assert {"lambda", "sns", "sqs", "s3", "stepfunctions", "total"} <= answer["cost_usd"].keys()
    assert {"calls", "billed", "bytes"} == answer["usage"]["sns.publish_batch"].keys()
    assert answer["outputs"] == [str(out / name) for name in FILES]
    assert np.array_equal(bits(out / "activations.safetensors"), expected)
    lines = (out / "predictions.csv").read_text().splitlines()
    assert lines[0] == "sample,argmax,score,nonzero"
    assert len(lines) == SAMPLES + 1
    alive = sum(line.rpartition(",")[2] != "0" for line in lines[1:])
    assert alive == answer["categories"] == np.count_nonzero(expected.any(axis=1))


@pytest.mark.parametrize(("strategy", "workers"), [("serial", 1), ("samples", 3), ("rows", 8)])
def test_runs_in_an_open_cloud_give_the_same_bits(
    lamella: Run,
    opened: dict[str, Any],
    model: Path,
    folder: Path,
    expected: NDArray[np.uint32],
    tmp_path: Path,
    strategy: str,
    workers: int,
) -> None:
    out = tmp_path / "out"
    options = ("--strategy", strategy, "--workers", workers, "--output", out)
    done = lamella("run", model, "--input", folder / "samples.npz", *options)
    assert done.returncode == 0, done.stderr
    assert f"{workers} workers" in done.stdout
    assert str(out / "predictions.csv") in done.stdout
    assert np.array_equal(bits(out / "activations.safetensors"), expected)


def test_paths_may_be_in_s3(lamella: Run, opened: dict[str, Any], model: Path, folder: Path) -> None:
    first = json.loads(lamella("run", model, "--input", folder / "samples.npz", "--json").stdout)
    clients = Clients.connect(opened["environment"])
    listed = clients.s3.list_objects_v2(Bucket=opened["bucket"])["Contents"]
    manifest = next(item["Key"] for item in listed if item["Key"].endswith("/manifest.json"))
    samples = next(item["Key"] for item in listed if item["Key"].endswith("/samples.npz"))
    there = f"s3://{opened['bucket']}/"
    done = lamella(
        "run", there + manifest.removesuffix("manifest.json"), "--input", there + samples, "--json"
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["categories"] == first["categories"]
    assert answer["run_id"] != first["run_id"]
    assert answer["outputs"] == [f"{there}runs/{answer['run_id']}/predictions.csv"]


def test_a_run_started_by_hand_and_one_started_here_are_the_same_thing(
    lamella: Run,
    opened: dict[str, Any],
    model: Path,
    folder: Path,
    expected: NDArray[np.uint32],
    tmp_path: Path,
) -> None:
    here = json.loads(lamella("run", model, "--input", folder / "samples.npz", "--json").stdout)
    clients = Clients.connect(opened["environment"])
    machine, bucket = opened["state_machine_arn"], opened["bucket"]
    listed = clients.stepfunctions.list_executions(stateMachineArn=machine)["executions"]
    (execution,) = [item["executionArn"] for item in listed if item["name"] == here["run_id"]]
    described = clients.stepfunctions.describe_execution(executionArn=execution)
    summary = json.loads(described["output"])
    assert summary["run_id"] == here["run_id"]
    assert summary["categories"] == here["categories"]

    request = json.loads(described["input"]) | {"activations": True, "strategy": "serial"}
    started = clients.stepfunctions.start_execution(
        stateMachineArn=machine, name="by-hand", input=json.dumps(request)
    )
    out = tmp_path / "out"
    fetched = lamella("fetch", "by-hand", "--output", out, "--json")
    assert fetched.returncode == 0, fetched.stderr
    answer = json.loads(fetched.stdout)
    assert answer["outputs"] == [str(out / name) for name in FILES]
    assert np.array_equal(bits(out / "activations.safetensors"), expected)

    runs = json.loads(lamella("runs", "--json").stdout)["runs"]
    seen = {run["run_id"]: run for run in runs}
    assert runs[0]["run_id"] == "by-hand"
    assert seen["by-hand"]["strategy"] == "serial"
    assert seen["by-hand"]["cost_usd"] == answer["cost_usd"]["total"]
    assert seen[here["run_id"]]["workers"] == here["workers"]
    shown = lamella("runs", "--limit", "1").stdout
    assert "by-hand" in shown
    assert here["run_id"] not in shown
    assert started["executionArn"].endswith(":by-hand")
    assert bucket in request["input"]


def test_fetching_a_run_that_is_not_there_or_failed(
    lamella: Run, opened: dict[str, Any], tmp_path: Path
) -> None:
    missing = lamella("fetch", "nobody", "--output", tmp_path)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr == f"error: stack {opened['stack']} has no run 'nobody': see 'lamella runs'\n"
    clients = Clients.connect(opened["environment"])
    clients.stepfunctions.start_execution(
        stateMachineArn=opened["state_machine_arn"], name="wrong", input='{"model": "s3://x/"}'
    )
    failed = lamella("fetch", "wrong", "--output", tmp_path)
    assert failed.returncode == 2
    assert "the run's input has no 'input'" in failed.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--strategy", "rows", "--workers", 64, "--channel", "sns"), "32 are deployed"),
        (("--memory", 2000), "no worker of 2000 MB is deployed: use 1024"),
        (("--strategy", "serial", "--workers", 2), "serial has one worker"),
    ],
)
def test_what_only_the_cloud_can_refuse(
    lamella: Run, opened: dict[str, Any], model: Path, folder: Path, options: tuple[object, ...], told: str
) -> None:
    done = lamella("run", model, "--input", folder / "samples.npz", *options, "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr


def test_ctrl_c_stops_the_run(
    lamella: Run, opened: dict[str, Any], environment: dict[str, str], model: Path, folder: Path
) -> None:
    clients = Clients.connect(opened["environment"])
    stack = Stack.find(opened["stack"], clients)

    def executions() -> dict[str, str]:
        listed = clients.stepfunctions.list_executions(stateMachineArn=stack.state_machine_arn)
        return {item["name"]: item["status"] for item in listed["executions"]}

    before = executions()
    process = subprocess.Popen(
        [str(COMMAND), "run", str(model), "--input", str(folder / "samples.npz"), "--workers", "8"],
        env=environment,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    until_s = time.monotonic() + 30
    while not (started := executions().keys() - before.keys()):
        assert time.monotonic() < until_s
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "stopped"
    assert [executions()[name] for name in started] == ["ABORTED"]
    after = lamella("run", model, "--input", folder / "samples.npz", "--workers", 8, "--json")
    assert after.returncode == 0, after.stderr


def test_local_refuses_to_open_twice(lamella: Run, opened: dict[str, Any]) -> None:
    done = lamella("local")
    assert done.returncode == 2
    assert opened["endpoint"] in done.stderr


@pytest.mark.slow
def test_demo_is_exact(lamella: Run, tmp_path: Path) -> None:
    done = lamella("demo", "--json", state=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["exact"] is True
    assert told["run"]["workers"] == 8
    assert told["run"]["categories"] == told["categories"] > 0
    assert told["paper"]["total_usd"] == pytest.approx(0.021532)
    assert told["live"]["120"] <= told["live"]["1"]
