"""A run's timeline, its report and its functions' logs, as they lie in the bucket and in CloudWatch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lamella import client
from lamella.client import RunHandle, Stack
from lamella.layout import RunKeys
from lamella.manifest import read_manifest
from lamella.report import Report
from lamella.storage import Bucket, folder
from lamella.timeline import Timeline
from model_prep.readers import open_source
from model_prep.writer import write_model
from tests.integration import batches
from tests.integration.damage import damaged
from tests.integration.runs import begin, outcome, until
from workflows.embedded_cloud import EmbeddedCloud

WORKERS = 4


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", batches.blobs(400, 16))


@pytest.fixture(scope="module")
def good(stack: Stack, small_model: Path, batch: Path) -> RunHandle:
    run = begin(stack, small_model, batch, workers=WORKERS, strategy="rows", micro_batches=2)
    assert outcome(run)["status"] == "SUCCEEDED"
    return run


@pytest.fixture(scope="module")
def failed(stack: Stack, batch: Path, tmp_path_factory: pytest.TempPathFactory) -> RunHandle:
    """A run whose workers fail in the middle: one of the last layers is not the one that was prepared."""
    out = tmp_path_factory.mktemp("damaged") / "model"
    # A network that no warm worker has of another run.
    write_model(open_source("alive:256x40"), out, workers=[WORKERS])
    address = damaged(stack, out, 33, "damaged-timeline")
    run = begin(stack, address, batch, workers=WORKERS, strategy="rows")
    outcome(run)
    return run


def model_of(run: RunHandle) -> Bucket:
    plan = json.loads(run.stack.files().read(RunKeys(run.run_id).plan))
    return folder(run.stack.clients.s3, plan["model"])


def drawn(run: RunHandle) -> Timeline:
    return Timeline.model_validate_json(run.stack.files().read(RunKeys(run.run_id).timeline))


def lines_of(cloud: EmbeddedCloud, run: RunHandle) -> list[dict[str, Any]]:
    """Whatever any function logged since that says anything of the run; all of it has to be JSON."""
    logs = cloud.client("logs")
    prefix = f"/aws/lambda/{run.stack.name}-"
    groups = [g["logGroupName"] for g in logs.describe_log_groups(logGroupNamePrefix=prefix)["logGroups"]]
    texts = [
        event["message"]
        for group in groups
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        for event in page["events"]
    ]
    return [line for line in map(json.loads, texts) if run.run_id in json.dumps(line)]


def test_every_worker_tells_of_every_layer(good: RunHandle) -> None:
    found = drawn(good)
    manifest = read_manifest(model_of(good))
    layers = len(manifest.layers)

    assert [worker.worker for worker in found.workers] == list(range(WORKERS))
    for worker in found.workers:
        for sample in {step.first_sample for step in worker.steps}:
            steps = [step for step in worker.steps if step.first_sample == sample]
            done = [layer for step in steps for layer in range(step.first_layer, step.layer + 1)]
            assert done == list(range(layers))
        moments = [worker.started_s, worker.joined_s, *(s.began_s for s in worker.steps), worker.ended_s]
        assert moments == sorted(moments)
        taken_s = sum(s.wait_s + s.read_s + s.compute_s + s.send_s for s in worker.steps)
        assert taken_s == pytest.approx(worker.ended_s - worker.joined_s, abs=0.5)
    assert [total.layer for total in found.layers] == list(range(layers))
    sent = [total for total in found.layers if total.letters]
    assert len(sent) == layers - 1
    for total in sent:
        needed = found.layers[total.layer + 1].calls
        assert needed["sns.publish_batch"].calls >= 1
        assert needed["sqs.receive_message"].calls >= 1
        assert needed["sns.publish_batch"].bytes > total.sent_bytes


def test_states_follow_each_other_within_the_run(good: RunHandle) -> None:
    found = drawn(good)
    summary = json.loads(good.stack.files().read(RunKeys(good.run_id).summary))

    assert [state.name for state in found.states] == ["Plan", "Workers", "Collect", "Finish"]
    bounds = [bound for state in found.states for bound in (state.began_s, state.ended_s)]
    assert bounds == sorted(bounds)
    assert bounds[-1] <= summary["seconds"]["total"] + 0.001
    assert summary["timeline"] == f"s3://{good.stack.bucket}/{RunKeys(good.run_id).timeline}"


def test_a_failed_run_s_says_which_worker_failed_where(failed: RunHandle) -> None:
    found = drawn(failed)
    errors = {worker.worker: worker.error or "" for worker in found.workers}

    assert found.status == "FAILED"
    assert any("sha256 differs" in error for error in errors.values())
    assert set(errors) == set(range(WORKERS))
    (first, *_) = [worker for worker in found.workers if "sha256" in (worker.error or "")]
    assert len(first.steps) > 0


def test_every_line_of_a_worker_s_log_names_run_attempt_worker_and_layer(
    cloud: EmbeddedCloud, good: RunHandle, failed: RunHandle
) -> None:
    def failed_lines() -> list[dict[str, Any]]:
        return [line for line in lines_of(cloud, failed) if line.get("error") == "ModelError"]

    until(lambda: bool(failed_lines()), 10)
    line = failed_lines()[0]
    assert (line["run"], line["attempt"], line["level"]) == (failed.run_id, 1, "ERROR")
    assert {"worker", "layer", "request_id"} <= set(line)
    messages = {line["message"] for line in lines_of(cloud, good) if line.get("run") == good.run_id}
    assert {"planned", "joined", "computing", "ended", "collected", "finished"} <= messages
    workers = [line for line in lines_of(cloud, good) if line.get("message") == "computing"]
    assert sorted(line["worker"] for line in workers) == list(range(WORKERS))
    assert {line["layer"] for line in workers} == {0}


def report_of(run: RunHandle) -> tuple[str, Report]:
    shown, data = client.report_files(run)
    return shown.decode(), Report.model_validate_json(data)


def test_a_run_s_report_says_what_its_summary_says(good: RunHandle) -> None:
    shown, report = report_of(good)
    summary = json.loads(good.stack.files().read(RunKeys(good.run_id).summary))

    assert (report.cost_usd, report.usage, report.seconds) == (
        summary["cost_usd"],
        summary["usage"],
        summary["seconds"],
    )
    assert summary["report_page"] == f"s3://{good.stack.bucket}/{RunKeys(good.run_id).report_page}"
    assert [fared.worker for fared in report.workers] == list(range(WORKERS))
    assert good.run_id in shown
    head = good.stack.clients.s3.head_object(Bucket=good.stack.bucket, Key=RunKeys(good.run_id).report_page)
    assert head["ContentType"] == "text/html; charset=utf-8"


def test_a_failed_run_s_report_has_the_last_lines_of_the_worker_that_failed_first(failed: RunHandle) -> None:
    shown, report = report_of(failed)
    assert report.failure
    assert "sha256 differs" in report.failure.cause
    assert report.failure.after_layer == 32
    messages = [json.loads(line)["message"] for line in report.failure.lines]
    assert "computing" in messages
    assert f"worker {report.failure.worker}, after layer 32" in shown


def test_a_refused_run_s_report_says_why(stack: Stack, small_model: Path, batch: Path) -> None:
    run = begin(stack, small_model, batch, strategy="rows", workers=3)
    outcome(run)
    shown, report = report_of(run)
    assert report.failure
    assert report.failure.error == "PlanError"
    assert "What failed" in shown
