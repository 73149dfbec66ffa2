"""The main job: the official network over eight workers that talk through SNS and SQS, exact to the bit."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella import client
from lamella.client import RunHandle, Stack
from lamella.cut import read_cut
from lamella.files import Directory
from lamella.kernel.choice import available
from lamella.manifest import read_manifest
from lamella.slots import slot_name
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from tests.integration import batches
from tests.integration.runs import activations, begin, history, states_entered

WORKERS = 8


@dataclass(frozen=True)
class MainJob:
    handle: RunHandle
    output: Path
    activations: NDArray[np.float32]
    plain: NDArray[np.float32]
    batch: Path
    official: bool

    @property
    def summary(self) -> dict[str, Any]:
        return client.details(self.handle)


@pytest.fixture(scope="module")
def job(stack: Stack, official_model: Path, tmp_path_factory: pytest.TempPathFactory) -> MainJob:
    """One run of it, on the official images where they are."""
    folder = tmp_path_factory.mktemp("job")
    official = batches.IMAGES.is_file()
    matrix = batches.official_images() if official else batches.blobs(3000, 32)
    batch = batches.IMAGES if official else batches.write_npz(folder / "blobs.npz", matrix)
    handle = begin(
        stack, official_model, batch, strategy="rows", workers=WORKERS, channel="sns", activations=True
    )
    got = activations(handle, folder / "out")
    return MainJob(
        handle, folder / "out", got, plain_scipy(open_source("radixnet:1024x120"), matrix), batch, official
    )


def test_activations_are_those_of_a_plain_scipy_run(job: MainJob) -> None:
    assert job.activations.any()
    assert job.activations.tobytes() == job.plain.tobytes()


@pytest.mark.parametrize(("strategy", "workers"), [("serial", 1), ("samples", 4)])
def test_other_strategies_give_the_same_bits(
    job: MainJob, stack: Stack, official_model: Path, tmp_path: Path, strategy: str, workers: int
) -> None:
    handle = begin(stack, official_model, job.batch, strategy=strategy, workers=workers, activations=True)
    assert activations(handle, tmp_path).tobytes() == job.activations.tobytes()


def test_predictions_name_the_official_images(job: MainJob) -> None:
    if not job.official:
        pytest.skip(f"the official images are not there ({batches.IMAGES})")
    with (job.output / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["sample"]) for row in rows] == list(range(1, 10_001))
    named = [int(row["sample"]) for row in rows if int(row["nonzero"])]
    assert named == batches.official_categories().tolist()
    assert job.summary["categories"] == len(named) == 337


def test_predictions_say_what_the_activations_say(job: MainJob) -> None:
    with (job.output / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["argmax"]) for row in rows] == job.plain.argmax(axis=1).tolist()
    assert [np.float32(row["score"]) for row in rows] == job.plain.max(axis=1).tolist()
    assert [int(row["nonzero"]) for row in rows] == np.count_nonzero(job.plain, axis=1).tolist()


def test_workers_are_processes_that_overlap_in_time(job: MainJob) -> None:
    workers = job.summary["workers_detail"]
    assert len({worker["process"] for worker in workers}) == WORKERS
    assert len({worker["log_stream"] for worker in workers}) == WORKERS
    latest_join = max(worker["seconds"]["joined"] for worker in workers)
    assert all(worker["seconds"]["ended"] > latest_join for worker in workers)


def test_workers_compute_with_the_layer_s_kernel(job: MainJob, stack: Stack) -> None:
    lines = [
        json.loads(event["message"])
        for group in stack.worker_log_groups
        for event in stack.clients.logs.filter_log_events(logGroupName=group)["events"]
        if '"computing"' in event["message"]
    ]
    assert {line["kernel"] for line in lines} == {available()[0]}


def test_a_worker_reads_only_its_own_bytes(job: MainJob, official_model: Path) -> None:
    files = Directory(official_model)
    manifest = read_manifest(files)
    cut = read_cut(files, manifest, WORKERS)
    others = (official_model / "manifest.json").stat().st_size
    for worker in job.summary["workers_detail"]:
        entries = [np.diff(cut.entries(k, worker["worker"]))[0] for k in range(len(manifest.layers))]
        weights = 2 * int(sum(entries))  # two bytes an index, and one constant for all values
        read = worker["usage"]["s3.get_object"]["bytes"]
        # Its weights, the manifest, and its own task and share of the input: nothing of the other seven.
        assert weights + others < read < weights + others + 0.3 * manifest.nnz


def test_no_activation_passes_through_step_functions(job: MainJob) -> None:
    events = history(job.handle)
    said = [text for event in events for text in strings(event)]
    assert max(len(text) for text in said) < 4096
    # Finish's answer is the summary, which names where they are: many values, each of them short.
    answers = [json.loads(text) for text in said if '"run_id"' in text]
    assert answers
    assert max(len(json.dumps(leaf)) for answer in answers for leaf in leaves(answer)) < 256
    others = [text for text in said if '"run_id"' not in text]
    assert not any("activations" in text and len(text) > 2048 for text in others)


def strings(value: Any) -> list[str]:
    """Every text in an event."""
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for child in children for text in strings(child)]


def leaves(value: object) -> Iterator[object]:
    """What is in objects, in whatever depth; lists are taken whole."""
    if isinstance(value, dict):
        for each in value.values():
            yield from leaves(each)
    else:
        yield value


def test_transitions_are_those_that_the_history_shows(job: MainJob) -> None:
    assert job.summary["usage"]["stepfunctions.transition"]["calls"] == len(states_entered(job.handle))


def test_what_only_workers_needed_is_removed(job: MainJob) -> None:
    kept = job.handle.stack.files(f"runs/{job.handle.run_id}/").sizes()
    told = {"plan.json", "summary.json", "timeline.json", "report.json", "report.html"}
    assert set(kept) == told | {"predictions.csv", "activations.safetensors"}


def test_every_message_was_counted(job: MainJob) -> None:
    usage = job.summary["usage"]
    detail = [worker["usage"] for worker in job.summary["workers_detail"]]
    assert usage["sns.publish_batch"]["calls"] == sum(u["sns.publish_batch"]["calls"] for u in detail)
    sent, received = usage["sns.publish_batch"]["bytes"], usage["sqs.receive_message"]["bytes"]
    # Queues don't pass on the slot attribute when only the data is asked for: as many bytes of each message.
    messages, rest = divmod(sent - received, len("slot") + len("String") + len(slot_name(0)))
    assert rest == 0
    assert messages > usage["sns.publish_batch"]["calls"]
    assert usage["sqs.receive_message"]["billed"] >= usage["sqs.receive_message"]["calls"]
    assert usage["lambda.invoke"]["calls"] == WORKERS + 3
    assert job.summary["cost_usd"]["total"] == pytest.approx(
        sum(job.summary["cost_usd"][name] for name in ("lambda", "sns", "sqs", "s3", "stepfunctions"))
    )
