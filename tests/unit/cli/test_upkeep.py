"""``lamella cancel`` and ``lamella clean``, without a cloud."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws

from lamella import upkeep
from lamella.client import Clients, RunHandle, Stack
from lamella.errors import CloudError, InputError
from lamella.events import SweepAnswer, SweptRun
from lamella.layout import RunKeys
from lamella.upkeep import cancel, clean
from tests.unit.cli.conftest import Lamella
from workflows.cli import history
from workflows.cli.state import OpenCloud

MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:lamella-inference"
DEFINITION = json.dumps({"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}})


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        clients = Clients.connect()
        clients.s3.create_bucket(Bucket="bucket")
        clients.stepfunctions.create_state_machine(
            name="lamella-inference", definition=DEFINITION, roleArn="arn:aws:iam::123456789012:role/r"
        )
        yield Stack("mine", "bucket", MACHINE, (), clients, sweep_function="mine-Sweep")


@pytest.fixture
def opened(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The stack, as that of an open local cloud."""
    cloud = OpenCloud(pid=1, checkout="x", stack="mine", environment={})
    monkeypatch.setattr(history, "find_open", lambda checkout: (cloud, stack))
    return stack


def begin(stack: Stack, name: str = "r") -> RunHandle:
    stack.clients.stepfunctions.start_execution(stateMachineArn=MACHINE, name=name)
    return RunHandle(stack, name, time.time())


def status(run: RunHandle) -> str:
    found = run.stack.clients.stepfunctions.describe_execution(executionArn=run.execution_arn)
    return found["status"]


class TestCancel:
    def test_stops_and_waits_until_workers_have_left_and_all_is_given_back(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, keys, files = begin(stack), RunKeys("r"), stack.files()
        files.write(keys.checkpoint(0), b"stream")
        seen: list[tuple[str, bool]] = []

        def leave(_: float) -> None:
            seen.append((status(run), files.exists(keys.abort)))
            # First the worker, then Finish.
            files.write(keys.ended(0) if len(seen) == 1 else keys.summary, b"{}")

        monkeypatch.setattr(upkeep.time, "sleep", leave)
        done = cancel(run)
        assert (done.run_id, done.status, done.staying, done.released) == ("r", "ABORTED", (), True)
        assert seen == [("ABORTED", True)] * 2

    def test_names_workers_that_do_not_answer(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        run, keys, files = begin(stack), RunKeys("r"), stack.files()
        for worker in (3, 1, 0):
            files.write(keys.checkpoint(worker), b"stream")
        files.write(keys.ended(0), b"RunAborted")
        files.write(keys.summary, b"{}")
        monkeypatch.setattr("lamella.leaving.LEAVE_S", 0.0)
        assert cancel(run).staying == (1, 3)

    def test_says_where_finish_has_not_come(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upkeep, "RELEASED_WITHIN_S", 0.0)
        assert not cancel(begin(stack)).released

    def test_a_run_that_was_stopped_in_the_console_is_waited_for(self, stack: Stack) -> None:
        run = begin(stack)
        stack.clients.stepfunctions.stop_execution(executionArn=run.execution_arn)
        stack.files().write(RunKeys("r").summary, b"{}")
        assert cancel(run).released

    @pytest.mark.parametrize("when", ["before", "meanwhile"])
    def test_a_run_that_has_ended_is_told_and_nobody_is_told_to_leave(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch, when: str
    ) -> None:
        run = begin(stack)
        answers = iter(["SUCCEEDED"] if when == "before" else ["RUNNING", "SUCCEEDED"])
        monkeypatch.setattr(
            stack.clients.stepfunctions, "describe_execution", lambda **_: {"status": next(answers)}
        )
        with pytest.raises(InputError, match=r"run r can't be stopped: it has ended already \(SUCCEEDED\)"):
            cancel(run)
        assert not stack.files().exists(RunKeys("r").abort)

    def test_on_the_command_line(self, lamella: Lamella, opened: Stack) -> None:
        begin(opened)
        opened.files().write(RunKeys("r").summary, b"{}")
        result = lamella("cancel", "r", "--json")
        told = json.loads(result.stdout)
        assert (result.exit_code, told["run_id"], told["status"]) == (0, "r", "ABORTED")
        assert (told["staying"], told["released"]) == ([], True)
        assert lamella("cancel", "r").stdout.startswith(
            "run r was stopped, and its workers have left within "
        )

    def test_unknown_runs_exit_2(self, lamella: Lamella, opened: Stack) -> None:
        result = lamella("cancel", "nobody")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == "error: stack mine has no run 'nobody': see 'lamella runs'\n"


def swept(**more: Any) -> SweepAnswer:
    run = SweptRun(
        run="20261124-101010-abcdef",
        status="ABORTED",
        safe_from_s=0.0,
        slots=8,
        units=9,
        in_line=0,
        queues=0,
        objects=1234,
        object_bytes=5_000_000,
        uploads=1,
    )
    total = {"runs": 1, "queues": 0, "slots": 8, "units": 9}
    total |= {"in_line": 0, "objects": 1234, "object_bytes": 5_000_000, "uploads": 1}
    told = {"removed": False, "dead": [run], "ending": [], "going": 0, "total": total, "more": False}
    return SweepAnswer(**{**told, **more})  # type: ignore[arg-type]


class Sweeper:
    """What the stack's function answers."""

    def __init__(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {"Payload": swept().model_dump_json().encode()}
        monkeypatch.setattr(stack.clients.lambda_, "invoke", self.invoke)

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        assert FunctionName == "mine-Sweep"
        self.asked.append(json.loads(Payload))
        removed = self.asked[-1]["remove"]
        body = self.answer["Payload"].replace(b'"removed":false', f'"removed":{json.dumps(removed)}'.encode())
        return self.answer | {"Payload": io.BytesIO(body)}


@pytest.fixture
def sweeper(opened: Stack, monkeypatch: pytest.MonkeyPatch) -> Sweeper:
    return Sweeper(opened, monkeypatch)


class TestClean:
    def test_shows_what_it_would_remove_and_removes_nothing(self, lamella: Lamella, sweeper: Sweeper) -> None:
        for options in ((), ("--dry-run",)):
            shown = lamella("clean", *options).stdout.splitlines()
            assert shown[0].split() == [
                "run",
                "status",
                "queues",
                "slots",
                "units",
                "objects",
                "bytes",
                "uploads",
            ]
            assert shown[1].split() == [
                *("20261124-101010-abcdef", "ABORTED", "0", "8", "9", "1,234", "5.0", "MB", "1"),
            ]
            assert shown[3] == (
                "of 1 dead runs: 0 queues, 8 slots and 9 units of concurrency leased, "
                "1,234 objects (5.0 MB), 1 unfinished uploads; 'lamella clean --yes' removes them"
            )
        assert sweeper.asked == [{"remove": False}] * 2

    def test_removes_with_yes(self, lamella: Lamella, sweeper: Sweeper) -> None:
        told = json.loads(lamella("clean", "--yes", "--json").stdout)
        assert (told["removed"], told["total"]["slots"]) == (True, 8)
        assert "removed of 1 dead runs: " in lamella("clean", "--yes").stdout
        assert sweeper.asked == [{"remove": True}] * 2

    def test_yes_and_no_exit_2(self, lamella: Lamella, sweeper: Sweeper) -> None:
        assert lamella("clean", "--yes", "--dry-run").exit_code == 2
        assert sweeper.asked == []

    def test_nothing_left(self, lamella: Lamella, sweeper: Sweeper) -> None:
        nothing = swept(dead=[], going=3, ending=swept().dead, more=True)
        sweeper.answer["Payload"] = nothing.model_dump_json().encode()
        first, ending, going, more = lamella("clean").stdout.splitlines()
        assert first == "dead runs have left nothing"
        assert ending.startswith("not yet, for they may still have workers until ")
        assert ending.endswith(": 20261124-101010-abcdef")
        assert going == "under way, and left alone: 3 runs"
        assert more == "there are more: call it again"

    def test_a_sweep_that_failed_is_one_line(self, lamella: Lamella, sweeper: Sweeper) -> None:
        error = {"errorType": "CloudError", "errorMessage": "s3://b/k can't\nbe removed"}
        sweeper.answer = {"FunctionError": "Unhandled", "Payload": json.dumps(error).encode()}
        result = lamella("clean")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == (
            "error: sweeping stack mine failed: CloudError: s3://b/k can't be removed: "
            "see the log group of mine-Sweep\n"
        )

    def test_an_answer_of_another_version_is_told(self, opened: Stack, sweeper: Sweeper) -> None:
        sweeper.answer["Payload"] = b'{"swept": 1}'
        with pytest.raises(CloudError, match="to the same version"):
            clean(opened, remove=False)

    def test_a_stack_without_a_sweep_is_to_be_updated(self, stack: Stack) -> None:
        old = Stack("old", stack.bucket, MACHINE, (), stack.clients)
        with pytest.raises(InputError, match="stack old has no function that sweeps: update it"):
            clean(old, remove=True)
