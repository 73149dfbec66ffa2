"""Runs that a schedule or an upload starts: each input once, exact, and told of at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamella import client
from lamella.client import Stack
from lamella.history import find_run
from lamella.layout import RunKeys
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from tests.integration import batches
from tests.integration.runs import activations, until
from tests.integration.stacks import put_stack
from workflows.embedded_cloud import EmbeddedCloud

DAY_S = 86_400
SIDE = 16
SOURCE = "alive:256x4"
WAIT_S = 60.0


class Starting:
    """A stack in which runs start by themselves."""

    def __init__(self, cloud: EmbeddedCloud, stack: Stack) -> None:
        self.cloud = cloud
        self.stack = stack
        self.lambda_ = cloud.client("lambda", read_timeout=120)

    def put(self, name: str, body: bytes) -> str:
        """An input; its address."""
        self.stack.clients.s3.put_object(Bucket=self.stack.bucket, Key=f"inputs/{name}", Body=body)
        return f"s3://{self.stack.bucket}/inputs/{name}"

    def put_batch(self, name: str, seed: int, folder: Path) -> str:
        """Generated images as an input; its address."""
        path = batches.write_npz(folder / "batch.npz", batches.blobs(60, SIDE, seed))
        return self.put(name, path.read_bytes())

    def intake(self, **event: str) -> dict[str, Any]:
        """What Intake answers."""
        name = f"{self.stack.name}-Intake"
        answer = self.lambda_.invoke(FunctionName=name, Payload=json.dumps(event))
        text = answer["Payload"].read()
        assert "FunctionError" not in answer, text
        told: dict[str, Any] = json.loads(text)
        return told

    def at_once(self, *events: dict[str, str]) -> list[str]:
        """Give several events to Intake at the same time; every run that was said to be started."""
        with ThreadPoolExecutor(len(events)) as pool:
            answers = list(pool.map(lambda event: self.intake(**event), events))
        return [run for answer in answers for run in answer["started"]]

    def executions(self) -> list[dict[str, Any]]:
        """Every execution, with its input."""
        states = self.stack.clients.stepfunctions
        listed = states.list_executions(stateMachineArn=self.stack.state_machine_arn)["executions"]
        found = [states.describe_execution(executionArn=item["executionArn"]) for item in listed]
        return [dict(item) for item in found]

    def runs_of(self, *inputs: str) -> dict[str, dict[str, Any]]:
        """The one execution of each input, once it has ended."""
        until = time.monotonic() + WAIT_S
        while True:
            found = [item for item in self.executions() if json.loads(item["input"])["input"] in inputs]
            ended = {json.loads(item["input"])["input"] for item in found if item["status"] != "RUNNING"}
            if ended == set(inputs):
                assert len(found) == len(inputs)
                return {json.loads(item["input"])["input"]: item for item in found}
            assert time.monotonic() < until, f"{set(inputs) - ended} had no run in {WAIT_S} s"
            time.sleep(0.1)

    def emails(self, run: str) -> list[str]:
        """What was mailed of a run, as soon as something is."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            found = [mail["message"] for mail in self.cloud.emails() if f" {run} " in mail["message"]]
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"no mail of {run}")


@pytest.fixture(scope="module")
def scheduled(cloud: EmbeddedCloud, alive_model: Path) -> Starting:
    """Deployed as a user does: first the stack, then its model, then what starts by itself."""
    model = client.upload_model(put_stack(cloud, "scheduled"), alive_model)
    options = json.dumps({"strategy": "serial", "activations": True})
    stack = put_stack(
        cloud, "scheduled", AutoModel=model, AutoOptions=options, ScheduleExpression="rate(1 day)"
    )
    # A rate begins with a look at once: of an empty folder, if that is over before anything is put there.
    logs, group = cloud.client("logs"), f"/aws/lambda/{stack.name}-Intake"
    until(lambda: "taken in" in str(logs.filter_log_events(logGroupName=group)["events"]), seconds=60)
    return Starting(cloud, stack)


@pytest.fixture(scope="module")
def uploading(cloud: EmbeddedCloud, everything_on: Stack) -> Starting:
    """Here uploads start runs, and a schedule looks for them too."""
    return Starting(cloud, everything_on)


def assert_exact(stack: Stack, execution: dict[str, Any], seed: int, folder: Path) -> None:
    """A run's activations have the bits of a plain scipy run."""
    assert execution["status"] == "SUCCEEDED", execution.get("cause")
    got = activations(find_run(stack, execution["name"]), folder / execution["name"])
    plain = plain_scipy(open_source(SOURCE), batches.blobs(60, SIDE, seed))
    assert plain.any()
    assert np.array_equal(got.view(np.uint32), plain.view(np.uint32))


class TestSchedule:
    def test_every_new_input_has_one_run(
        self, scheduled: Starting, cloud: EmbeddedCloud, tmp_path: Path
    ) -> None:
        inputs = [scheduled.put_batch(f"day/{seed}.npz", seed, tmp_path) for seed in range(3)]
        wrong = scheduled.put("wrong.npy", b"no array")
        scheduled.put("", b"")
        scheduled.put("notes.txt", b"of no interest")
        assert scheduled.executions() == []

        cloud.advance(DAY_S)
        runs = scheduled.runs_of(*inputs, wrong)

        for seed, address in enumerate(inputs):
            assert_exact(scheduled.stack, runs[address], seed, tmp_path)
        assert runs[wrong]["status"] == "FAILED"
        cloud.advance(DAY_S)
        assert scheduled.intake(prefix="inputs/") == {"started": [], "waiting": 0}
        assert len(scheduled.executions()) == 4

    def test_firing_twice_at_once_starts_nothing_twice(
        self, scheduled: Starting, cloud: EmbeddedCloud, tmp_path: Path
    ) -> None:
        inputs = [scheduled.put_batch(f"twice/{seed}.npz", seed, tmp_path) for seed in range(3, 6)]
        with ThreadPoolExecutor(1) as pool:
            fired = pool.submit(cloud.advance, DAY_S)
            started = scheduled.at_once({"prefix": "inputs/"}, {"prefix": "inputs/twice/"})
            fired.result()
        runs = scheduled.runs_of(*inputs)

        names = {runs[address]["name"] for address in inputs}
        assert set(started) <= names
        assert {item["status"] for item in runs.values()} == {"SUCCEEDED"}
        marks = set(scheduled.stack.files("intake/").sizes())
        assert names <= marks


class TestUpload:
    def test_an_upload_starts_its_run(self, uploading: Starting, tmp_path: Path) -> None:
        address = uploading.put_batch('one "quoted" + ü.npz', 11, tmp_path)

        assert_exact(uploading.stack, uploading.runs_of(address)[address], 11, tmp_path)

    def test_told_twice_and_seen_by_the_schedule_it_starts_once(
        self, uploading: Starting, cloud: EmbeddedCloud, tmp_path: Path
    ) -> None:
        address = uploading.put_batch("often.npz", 12, tmp_path)
        event = {"bucket": uploading.stack.bucket, "key": "inputs/often.npz"}
        uploading.at_once(event, event, {"prefix": "inputs/"})
        cloud.advance(2 * DAY_S)
        uploading.runs_of(address)
        uploading.at_once(event, event, {"prefix": "inputs/"})

        assert len(uploading.runs_of(address)) == 1

    def test_the_same_key_with_other_content_is_another_input(
        self, uploading: Starting, tmp_path: Path
    ) -> None:
        address = uploading.put_batch("again.npz", 13, tmp_path)
        uploading.runs_of(address)
        uploading.put_batch("again.npz", 14, tmp_path)
        until = time.monotonic() + WAIT_S
        while True:
            found = [item for item in uploading.executions() if json.loads(item["input"])["input"] == address]
            if [item["status"] for item in found] == ["SUCCEEDED"] * 2:
                break
            assert time.monotonic() < until, found
            time.sleep(0.1)

        newest = max(found, key=lambda item: item["startDate"])
        assert_exact(uploading.stack, newest, 14, tmp_path)

    def test_a_run_of_the_command_line_starts_no_other(
        self, uploading: Starting, cloud: EmbeddedCloud, alive_model: Path, tmp_path: Path
    ) -> None:
        path = batches.write_npz(tmp_path / "local.npz", batches.blobs(60, SIDE, 15))
        before = Counter(item["name"] for item in uploading.executions())
        options = ("--stack", "everything", "--strategy", "serial", "--json")
        done = subprocess.run(
            [Path(sys.executable).with_name("lamella"), "run", alive_model, "--input", path, *options],
            env={**os.environ, **cloud.environment(), "LAMELLA_STATE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        # Whatever its upload had started would have come before this one's.
        later = uploading.put_batch("later.npz", 16, tmp_path)
        last = uploading.runs_of(later)[later]["name"]

        now = Counter(item["name"] for item in uploading.executions())
        assert now - before == Counter([json.loads(done.stdout)["run_id"], last])
        assert not uploading.stack.files("inputs/").exists("local.npz")


class TestNotifications:
    def test_the_end_of_a_run_is_mailed(self, uploading: Starting, tmp_path: Path) -> None:
        good = uploading.put_batch("mail/good.npz", 7, tmp_path)
        bad = uploading.put("mail/bad.csv", b"no,numbers\n")
        runs = uploading.runs_of(good, bad)

        for address, status in ((good, "SUCCEEDED"), (bad, "FAILED")):
            run, arn = runs[address]["name"], runs[address]["executionArn"]
            (text,) = uploading.emails(run)
            lines = [line.strip('"') for line in text.splitlines()]
            summary = f"s3://{uploading.stack.bucket}/{RunKeys(run).summary}"
            assert lines == [
                f"Lamella run {run} of stack everything: {status}",
                f"Summary: {summary}",
                "Execution: https://us-east-1.console.aws.amazon.com/states/home?region=us-east-1"
                f"#/v2/executions/details/{arn}",
            ]
            told = json.loads(uploading.stack.files().read(RunKeys(run).summary))
            assert told["status"] == status

    def test_nobody_is_told_without_the_parameter(self, uploading: Starting, scheduled: Starting) -> None:
        topics = [item["TopicArn"] for item in uploading.cloud.client("sns").list_topics()["Topics"]]
        told = [arn for arn in topics if "NotificationTopic" in arn]
        assert [arn for arn in told if ":everything-" in arn]
        assert not [arn for arn in told if ":scheduled-" in arn]
        iam = uploading.cloud.client("iam")
        for stack, may in ((uploading.stack, True), (scheduled.stack, False)):
            function = uploading.lambda_.get_function_configuration(FunctionName=f"{stack.name}-Intake")
            role = function["Role"].rpartition("/")[2]
            policy = iam.get_role_policy(RoleName=role, PolicyName="intake")["PolicyDocument"]
            actions = [statement["Action"] for statement in policy["Statement"]]
            assert ("sns:Publish" in actions) == may
