"""Runs beside each other, and bad input, on a small network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load

from lamella.client import Stack
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from tests.integration import batches
from tests.integration.runs import activations, begin, held_slots, outcome, states_entered


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", batches.blobs(400, 16))


@pytest.fixture(scope="module")
def plain() -> NDArray[np.float32]:
    return plain_scipy(open_source("radixnet:256x24"), batches.blobs(400, 16))


def test_two_runs_at_once_are_both_exact(
    stack: Stack, small_model: Path, batch: Path, plain: NDArray[np.float32], tmp_path: Path
) -> None:
    runs = [begin(stack, small_model, batch, workers=4, activations=True) for _ in range(2)]
    slots = [run.run_id for run in runs]
    for run in runs:
        assert activations(run, tmp_path / run.run_id).tobytes() == plain.tobytes()
    assert not {hold["run"] for hold in held_slots(stack).values()} & set(slots)


def test_model_and_input_alone_are_enough(
    stack: Stack, small_model: Path, batch: Path, plain: NDArray[np.float32]
) -> None:
    run = begin(stack, small_model, batch)
    ended = outcome(run)
    assert ended["status"] == "SUCCEEDED", ended
    answer = json.loads(ended["output"])
    # A model of 24 small layers is not worth a second start.
    assert (answer["strategy"], answer["channel"], answer["workers"]) == ("serial", "none", 1)
    assert answer["categories"] == np.count_nonzero(plain.any(axis=1))
    assert states_entered(run).count("Worker") == 1
    expected = answer["predicted"]
    assert expected["usd"]["total"] > 0
    assert expected["seconds"] > expected["infer_s"] > 0
    assert expected["assumed"][1:] == ["aws-2026-11", "us-east-1-2026-11"]
    planned = json.loads(stack.files().read(f"runs/{run.run_id}/plan.json"))
    assert planned["predicted"] == expected


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"strategy": "row"}, "PlanError", "did you mean 'rows'"),
        ({"workers": 33, "strategy": "rows"}, "PlanError", "no cut for 33 workers"),
        ({"workers": 5000, "strategy": "rows"}, "PlanError", "more than the 256 rows"),
        ({"samples": 3}, "BatchError", "400"),
        ({"budget_usd": 1e-6}, "PlanError", "no plan keeps to $1e-06: the fastest is serial"),
        ({"strategy": "rows", "deadline_s": 0.1}, "PlanError", "no plan keeps to 0.1 s"),
        ({"model": "s3://{bucket}/models/nowhere"}, "ModelError", "is not a prepared model"),
        (
            {"input": "s3://{bucket}/inputs/nowhere.npy"},
            "BatchError",
            "upload the input, or correct",
        ),
        ({"input": "s3://{bucket}/inputs/x.docx"}, "BatchError", "is no input format"),
        ({"model": "s3://elsewhere/m"}, "InputError", "copy it below s3://{bucket}/models/"),
        ({"input": "s3://{bucket}/runs/x.npy"}, "InputError", "copy it below s3://{bucket}/inputs/"),
    ],
)
def test_bad_input_ends_in_fail_before_any_worker_is_launched(
    stack: Stack, small_model: Path, batch: Path, fields: dict[str, Any], error: str, says: str
) -> None:
    given = {
        name: value.format(bucket=stack.bucket) if isinstance(value, str) else value
        for name, value in fields.items()
    }
    model, source = given.pop("model", small_model), given.pop("input", batch)
    run = begin(stack, model, source, **given)
    ended = outcome(run)
    assert (ended["status"], ended.get("error")) == ("FAILED", error), ended
    assert says.format(bucket=stack.bucket) in ended["cause"]
    assert "\n" not in ended["cause"]
    assert "Worker" not in states_entered(run)


def test_features_that_do_not_fit_are_refused(stack: Stack, small_model: Path, tmp_path: Path) -> None:
    wide = batches.write_npz(tmp_path / "wide.npz", batches.blobs(3, 32))
    ended = outcome(begin(stack, small_model, wide))
    assert ended["error"] == "BatchError"
    assert "1,024 features a sample, the model takes 256" in ended["cause"]


def test_a_model_with_a_missing_or_short_file_is_refused(
    stack: Stack, small_model: Path, batch: Path
) -> None:
    files = {
        path.relative_to(small_model).as_posix(): path for path in small_model.rglob("*") if path.is_file()
    }
    damaged = stack.files("models/damaged/")
    for name, path in files.items():
        damaged.write(name, path.read_bytes())
    weights = next(name for name in files if name.startswith("weights"))
    damaged.write(weights, files[weights].read_bytes()[:-1])
    ended = outcome(begin(stack, damaged.location(), batch))
    assert ended["error"] == "ModelError"
    assert weights in ended["cause"]
    damaged.delete([weights])
    ended = outcome(begin(stack, damaged.location(), batch))
    assert f"{weights} is missing" in ended["cause"]


def test_activations_are_written_only_where_asked(stack: Stack, small_model: Path, batch: Path) -> None:
    run = begin(stack, small_model, batch, strategy="serial")
    assert json.loads(outcome(run)["output"])["activations"] is None
    assert not stack.files().exists(f"runs/{run.run_id}/activations.safetensors")
    run = begin(stack, small_model, batch, strategy="serial", activations=True)
    key = json.loads(outcome(run)["output"])["activations"].partition(f"{stack.bucket}/")[2]
    assert load(stack.files().read(key))["activations"].shape == (400, 256)
