"""What disturbs whole runs: queues that go, leases of the dead, states invoked twice, runs beside each other.

Each ends in one of two ways: exact, or with one typed error; and leaves nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lamella import client, errors
from lamella.channels.wire import DATA, SLOT
from lamella.client import RunHandle, Stack
from lamella.events import RunRequest, SweepAnswer, SweepEvent
from lamella.layout import RunKeys
from lamella.slots import slot_name
from lamella.states.sweep import sweep
from lamella.upkeep import clean
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.writer import write_model
from tests.integration import batches
from tests.integration.runs import (
    activations,
    assert_nothing_is_left,
    begin,
    held_slots,
    outcome,
    process_of,
    until,
    wait_for_workers,
)
from tests.integration.stacks import physical_ids, stack_of
from tests.integration.test_permissions import Context, deployed_runtime
from workflows.embedded_cloud import EmbeddedCloud

WORKERS = 4
SLOTS = 8
CHANNELS = ("sns", "sqs", "s3")
LONG, SHORT = "radixnet:256x240", "radixnet:256x24"
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers enough that a run of it can be disturbed in the middle."""
    out = tmp_path_factory.mktemp("long") / "model"
    write_model(open_source(LONG), out, workers=[WORKERS, SLOTS])
    return out


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", batches.blobs(400, 16))


@pytest.fixture(scope="module")
def plain_long() -> NDArray[np.float32]:
    return plain_scipy(open_source(LONG), batches.blobs(400, 16))


@pytest.fixture(scope="module")
def plain_short() -> NDArray[np.float32]:
    return plain_scipy(open_source(SHORT), batches.blobs(400, 16))


@contextmanager
def failing(cloud: EmbeddedCloud, *rules: dict[str, Any]) -> Iterator[None]:
    cloud.fail(rules)
    try:
        yield
    finally:
        cloud.fail([])


def assert_exact_or_typed(run: RunHandle, plain: NDArray[np.float32], folder: Path) -> None:
    """One of the two ways in which a run may end; with its activations asked for."""
    ended = outcome(run)
    if ended["status"] == "SUCCEEDED":
        assert activations(run, folder).tobytes() == plain.tobytes()
        return
    assert ended["status"] == "FAILED"
    assert issubclass(getattr(errors, ended["error"]), errors.RunError)
    assert ended["cause"]
    assert "\n" not in ended["cause"]


class TestQueueDeletedMidRun:
    def test_of_a_run(
        self,
        cloud: EmbeddedCloud,
        stack: Stack,
        long_model: Path,
        batch: Path,
        plain_long: NDArray[np.float32],
        tmp_path: Path,
    ) -> None:
        run = begin(
            stack, long_model, batch, workers=WORKERS, strategy="rows", channel="sqs", activations=True
        )
        wait_for_workers(run, WORKERS)
        sqs = cloud.client("sqs")
        urls = sqs.list_queues(QueueNamePrefix=f"{stack.name}-run-")["QueueUrls"]
        sqs.delete_queue(QueueUrl=next(url for url in urls if url.endswith("-1-2")))
        assert_exact_or_typed(run, plain_long, tmp_path)
        assert_nothing_is_left(cloud, run)
        assert not sqs.list_queues(QueueNamePrefix=f"{stack.name}-run-").get("QueueUrls")

    def test_of_the_stack(
        self,
        cloud: EmbeddedCloud,
        long_model: Path,
        batch: Path,
        plain_long: NDArray[np.float32],
        tmp_path: Path,
    ) -> None:
        """Until the stack is put right again nobody can use that slot; whoever tries is told so."""
        with stack_of(cloud, "queueless") as stack:
            run = begin(
                stack, long_model, batch, workers=SLOTS, strategy="rows", channel="sns", activations=True
            )
            wait_for_workers(run, SLOTS)
            cloud.client("sqs").delete_queue(QueueUrl=physical_ids(cloud, stack.name)["SlotQueue02"])
            assert_exact_or_typed(run, plain_long, tmp_path)
            assert not [hold for hold in held_slots(stack).values() if hold["run"] == run.run_id]
            assert not stack.files(f"runs/{run.run_id}/work/").sizes()


class TestSlotOfADeadRun:
    def test_is_swept_and_whoever_has_it_next_is_exact(
        self,
        cloud: EmbeddedCloud,
        long_model: Path,
        batch: Path,
        plain_long: NDArray[np.float32],
        tmp_path: Path,
    ) -> None:
        with stack_of(cloud, "deadly") as stack:
            dead = died(cloud, stack, long_model, batch)
            before = left_of_runs(cloud, stack)
            assert len(before["slots"]) == SLOTS
            assert before["work"]

            # Its workers might still be there, for all that anybody knows.
            said = clean(stack, remove=True)
            assert [run.run for run in said.ending] == [dead.run_id]
            assert said.dead == []
            assert left_of_runs(cloud, stack) == before

            later = swept_later(cloud, stack)
            assert [(run.run, run.status) for run in later.dead] == [(dead.run_id, "ABORTED")]
            assert (later.dead[0].slots, later.dead[0].uploads) == (SLOTS, 1)
            nothing: dict[str, Any] = {"slots": set(), "work": set(), "uploads": set()}
            assert left_of_runs(cloud, stack) == nothing

            tell_late(cloud, stack, dead)
            run = begin(
                stack, long_model, batch, workers=SLOTS, strategy="rows", channel="sns", activations=True
            )
            assert activations(run, tmp_path).tobytes() == plain_long.tobytes()
            assert left_of_runs(cloud, stack) == nothing


def died(cloud: EmbeddedCloud, stack: Stack, model: Path, batch: Path) -> RunHandle:
    """A run that ended in the middle, all its workers dead, and of whose end Finish was never told."""
    events, rule = cloud.client("events"), physical_ids(cloud, stack.name)["StoppedRule"].rpartition("/")[2]
    events.disable_rule(Name=rule)
    try:
        run = begin(stack, model, batch, workers=SLOTS, strategy="rows", channel="sns")
        wait_for_workers(run, SLOTS)
        processes = [process_of(cloud, run, worker) for worker in range(SLOTS)]
        client.stop(run)
        for process in processes:
            process.kill()
        assert outcome(run)["status"] == "ABORTED"
        key = RunKeys(run.run_id).part(0)
        cloud.client("s3").create_multipart_upload(Bucket=stack.bucket, Key=key)
        time.sleep(1)
        return run
    finally:
        events.enable_rule(Name=rule)


def left_of_runs(cloud: EmbeddedCloud, stack: Stack) -> dict[str, Any]:
    uploads = cloud.client("s3").list_multipart_uploads(Bucket=stack.bucket).get("Uploads", [])
    return {
        "slots": set(held_slots(stack)),
        "work": {key for key in stack.files().sizes("runs/") if "/work/" in key},
        "uploads": {upload["Key"] for upload in uploads},
    }


def swept_later(cloud: EmbeddedCloud, stack: Stack) -> SweepAnswer:
    """By the deployed function's own code and settings, half an hour later."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment().items():
            patch.setenv(name, value)
        runtime, _ = deployed_runtime(cloud, f"{stack.name}-Sweep", patch)
        runtime.begin(Context())
        now_s = time.time() + 1800
        patch.setattr("lamella.states.sweep.time.time", lambda: now_s)
        return sweep(SweepEvent(remove=True), runtime)


def tell_late(cloud: EmbeddedCloud, stack: Stack, dead: RunHandle) -> None:
    """Something that a worker of the dead run had sent arrives only now, in every slot."""
    topic = physical_ids(cloud, stack.name)["Topic"]
    for slot in range(SLOTS):
        cloud.client("sns").publish(
            TopicArn=topic,
            Message=".",
            MessageAttributes={
                SLOT: {"DataType": "String", "StringValue": slot_name(slot)},
                DATA: {"DataType": "Binary", "BinaryValue": f"{dead.run_id}, late".encode()},
            },
        )


class TestStatesInvokedTwice:
    @pytest.mark.parametrize("channel", CHANNELS)
    def test_one_after_the_other(
        self,
        cloud: EmbeddedCloud,
        stack: Stack,
        small_model: Path,
        batch: Path,
        plain_short: NDArray[np.float32],
        channel: str,
        tmp_path: Path,
    ) -> None:
        twice = [
            {"service": "lambda", "operation": "Invoke", "where": f"{state}/", "fault": "duplicate"}
            for state in ("-Plan", "-Collect", "-Finish")
        ]
        with failing(cloud, *twice):
            run = begin(stack, small_model, batch, workers=WORKERS, channel=channel, activations=True)
            assert activations(run, tmp_path).tobytes() == plain_short.tobytes()
            assert len({each["rule"] for each in cloud.failures()}) == 3
        assert_nothing_is_left(cloud, run)
        assert json.loads(outcome(run)["output"])["status"] == "SUCCEEDED"

    def test_plan_at_once(self, cloud: EmbeddedCloud, stack: Stack, small_model: Path, batch: Path) -> None:
        """Both give the same, and hold no more than one."""
        run = client.new_run(stack)
        request = RunRequest(
            model=client.upload_model(stack, small_model),
            input=client.upload_input(stack, batch),
            strategy="rows",
            channel="sns",
            workers=WORKERS,
        )
        event = {
            "execution": run.execution_arn,
            "run": run.run_id,
            "request": request.model_dump(exclude_defaults=True),
        }
        first, second = at_once(cloud, f"{stack.name}-Plan", event)
        assert first == second
        held = [slot for slot, hold in held_slots(stack).items() if hold["run"] == run.run_id]
        assert len(held) == WORKERS
        # And the same of its end: of an execution that was never there.
        end = {"execution": run.execution_arn, "run": run.run_id, "status": "ABORTED"}
        told, again = at_once(cloud, f"{stack.name}-Finish", end)
        assert told == again
        assert told["error"] == "RunAborted"
        assert_nothing_is_left(cloud, run)

    def test_collect_and_finish_at_once_and_after_the_end(
        self,
        cloud: EmbeddedCloud,
        stack: Stack,
        small_model: Path,
        batch: Path,
        plain_short: NDArray[np.float32],
        tmp_path: Path,
    ) -> None:
        run = begin(stack, small_model, batch, workers=WORKERS, activations=True)
        ended = json.loads(outcome(run)["output"])
        before = stack.files().read(RunKeys(run.run_id).summary)
        end = {"execution": run.execution_arn, "run": run.run_id, "status": "FAILED"}
        answers = at_once(cloud, f"{stack.name}-Finish", end)
        # Whoever comes late is told what came of it, and changes nothing.
        assert answers == [ended, ended]
        assert stack.files().read(RunKeys(run.run_id).summary) == before
        assert activations(run, tmp_path).tobytes() == plain_short.tobytes()
        assert_nothing_is_left(cloud, run)


def at_once(cloud: EmbeddedCloud, function: str, event: dict[str, Any]) -> list[dict[str, Any]]:
    """What a function answers to an event that comes twice at the same time."""
    lambda_ = cloud.client("lambda", read_timeout=120)

    def invoke(_: int) -> dict[str, Any]:
        answer = lambda_.invoke(FunctionName=function, Payload=json.dumps(event))
        text = answer["Payload"].read()
        assert "FunctionError" not in answer, text
        told: dict[str, Any] = json.loads(text)
        return told

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(invoke, range(2)))


def test_runs_over_every_channel_at_once_are_all_exact(
    cloud: EmbeddedCloud,
    stack: Stack,
    small_model: Path,
    batch: Path,
    plain_short: NDArray[np.float32],
    tmp_path: Path,
) -> None:
    runs = [
        begin(stack, small_model, batch, workers=WORKERS, channel=channel, activations=True)
        for channel in CHANNELS
        for _ in range(2)
    ]
    for run in runs:
        assert activations(run, tmp_path / run.run_id).tobytes() == plain_short.tobytes()
    for run in runs:
        assert_nothing_is_left(cloud, run)


class TestSweepOnSchedule:
    def test_leaves_a_run_alone_that_is_under_way(
        self,
        cloud: EmbeddedCloud,
        stack: Stack,
        long_model: Path,
        batch: Path,
        plain_long: NDArray[np.float32],
        tmp_path: Path,
    ) -> None:
        run = begin(
            stack, long_model, batch, workers=WORKERS, strategy="rows", channel="sqs", activations=True
        )
        wait_for_workers(run, WORKERS)
        cloud.advance(DAY_S)
        said = clean(stack, remove=True)
        assert run.run_id not in {each.run for each in [*said.dead, *said.ending]}
        assert activations(run, tmp_path).tobytes() == plain_long.tobytes()
        logs, group = cloud.client("logs"), f"/aws/lambda/{stack.name}-Sweep"

        def swept() -> list[str]:
            events = logs.filter_log_events(logGroupName=group)["events"]
            return [event["message"] for event in events if '"sweep done"' in event["message"]]

        # By the schedule, and by hand.
        until(lambda: len(swept()) >= 2, 20)
