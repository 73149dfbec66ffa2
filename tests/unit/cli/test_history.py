from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber
from moto import mock_aws

from lamella.client import Clients, RunHandle, Stack
from lamella.errors import CloudError, InputError
from lamella.history import PastRun, find_run, recent_runs
from lamella.layout import RunKeys
from tests.unit.cli.conftest import Lamella
from workflows.cli import history, tables
from workflows.cli.state import OpenCloud

MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:lamella"
EXECUTION = MACHINE.replace("stateMachine", "execution")
BEGAN = datetime(2026, 11, 24, 8, 15, 30, tzinfo=UTC)
ENDED = datetime(2026, 11, 24, 8, 15, 42, tzinfo=UTC)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        clients = Clients.connect()
        clients.s3.create_bucket(Bucket="bucket")
        yield Stack("mine", "bucket", MACHINE, (), clients)


def execution(name: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "executionArn": f"{EXECUTION}:{name}",
        "stateMachineArn": MACHINE,
        "name": name,
        "status": status,
        "startDate": BEGAN,
    } | more


def listed(stub: Stubber, executions: list[dict[str, Any]], asked: int, **more: Any) -> None:
    stub.add_response(
        "list_executions",
        {"executions": executions} | more,
        {"stateMachineArn": MACHINE, "maxResults": asked},
    )


def summarize(stack: Stack, name: str, **fields: Any) -> None:
    stack.files().write(RunKeys(name).summary, json.dumps(fields).encode())


class TestRuns:
    def test_have_what_their_summaries_say(self, stack: Stack) -> None:
        summarize(stack, "good", strategy="rows", workers=8, cost_usd={"total": 0.25})
        summarize(stack, "refused", error="BatchError", cost_usd={"total": 0.001})
        with Stubber(stack.clients.stepfunctions) as stub:
            names = [("going", "RUNNING"), ("good", "SUCCEEDED"), ("refused", "FAILED"), ("old", "ABORTED")]
            ended = [execution(name, status, stopDate=ENDED) for name, status in names[1:]]
            listed(stub, [execution(*names[0]), *ended], 20)
            found = recent_runs(stack, 20)
        began_s = BEGAN.timestamp()
        assert found == [
            PastRun("going", "RUNNING", began_s, None, None, None, None),
            PastRun("good", "SUCCEEDED", began_s, 12.0, "rows", 8, 0.25),
            PastRun("refused", "FAILED", began_s, 12.0, None, None, 0.001),
            PastRun("old", "ABORTED", began_s, 12.0, None, None, None),
        ]

    def test_no_more_than_asked_for(self, stack: Stack) -> None:
        with Stubber(stack.clients.stepfunctions) as stub:
            listed(stub, [execution(name, "RUNNING") for name in "abc"], 2, nextToken="more")
            assert [run.run_id for run in recent_runs(stack, 2)] == ["a", "b"]

    def test_that_may_not_be_listed_are_one_line(self, stack: Stack) -> None:
        with Stubber(stack.clients.stepfunctions) as stub:
            stub.add_client_error("list_executions", "AccessDeniedException", "no")
            with pytest.raises(CloudError, match="listing the runs of stack mine failed: AccessDenied"):
                recent_runs(stack, 2)

    def test_one_a_line(self) -> None:
        long = "a-long-name-of-a-file-0123456789abcdef01234567"
        head, first, second = tables.runs_lines(
            [
                PastRun("[b]a", "SUCCEEDED", 0.0, 12.34, "rows", 8, 0.25),
                PastRun(long, "RUNNING", 0.0, None, None, None, None),
            ]
        ).splitlines()
        assert head.split() == ["run", "status", "started", "seconds", "strategy", "workers", "cost"]
        assert first.split()[:2] == ["[b]a", "SUCCEEDED"]
        assert first.split()[4:] == ["12.3", "rows", "8", "$0.2500"]
        assert second.split()[:2] == [long, "RUNNING"]
        assert first.index("SUCCEEDED") == second.index("RUNNING") == head.index("status")


class TestFind:
    def test_knows_when_it_began(self, stack: Stack) -> None:
        with Stubber(stack.clients.stepfunctions) as stub:
            asked = {"executionArn": f"{EXECUTION}:good"}
            stub.add_response("describe_execution", execution("good", "RUNNING"), asked)
            assert find_run(stack, "good") == RunHandle(stack, "good", BEGAN.timestamp())

    @pytest.mark.parametrize("name", ["gone", "no/name", "a b", "", "x" * 81])
    def test_none(self, stack: Stack, name: str) -> None:
        with Stubber(stack.clients.stepfunctions) as stub:
            if name == "gone":
                stub.add_client_error("describe_execution", "ExecutionDoesNotExist", "no")
            with pytest.raises(InputError, match=r"stack mine has no run .*: see 'lamella runs'"):
                find_run(stack, name)

    def test_other_errors_are_told(self, stack: Stack) -> None:
        with Stubber(stack.clients.stepfunctions) as stub:
            stub.add_client_error("describe_execution", "AccessDeniedException", "no")
            with pytest.raises(CloudError, match="looking for run good failed: AccessDenied"):
                find_run(stack, "good")


class TestCommands:
    @pytest.mark.parametrize("command", [("runs",), ("fetch", "a", "--output", "out"), ("report", "a")])
    def test_without_a_cloud_exit_2(self, lamella: Lamella, command: tuple[str, ...]) -> None:
        result = lamella(*command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == "error: no 'lamella local' is open: name a deployed stack with --stack NAME\n"

    def test_fetch_into_a_file_exits_2(self, lamella: Lamella, batch: Path) -> None:
        result = lamella("fetch", "a", "--output", batch)
        assert result.exit_code == 2
        assert "is a file: name a folder" in result.stderr

    def test_runs_as_json(self, lamella: Lamella, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        open_cloud = OpenCloud(pid=1, checkout="x", stack="mine", environment={})
        monkeypatch.setattr(history, "find_open", lambda checkout: (open_cloud, stack))
        with Stubber(stack.clients.stepfunctions) as stub:
            listed(stub, [execution("a", "SUCCEEDED", stopDate=ENDED)], 3)
            result = lamella("runs", "--limit", 3, "--json")
        (run,) = json.loads(result.stdout)["runs"]
        assert (run["run_id"], run["status"], run["seconds"]) == ("a", "SUCCEEDED", 12.0)
        assert result.stdout.count("\n") == 1

    @pytest.mark.parametrize("json_wanted", [False, True])
    def test_report_is_saved_where_it_is_told(
        self,
        lamella: Lamella,
        stack: Stack,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        *,
        json_wanted: bool,
    ) -> None:
        self.open(monkeypatch, stack)
        stack.files().write(RunKeys("a").report_page, b"<p>page</p>")
        stack.files().write(RunKeys("a").report, b'{"run_id": "a"}')
        with Stubber(stack.clients.stepfunctions) as stub:
            for _ in range(2):
                stub.add_response("describe_execution", execution("a", "FAILED"))
            path = tmp_path / "new" / "a.html"
            result = lamella("report", "a", "--output", path, *(["--json"] if json_wanted else []))
        assert result.exit_code == 0, result.stderr
        assert path.read_bytes() == b"<p>page</p>"
        assert result.stdout == ('{"run_id": "a"}\n' if json_wanted else f"{path}\n")

    def test_report_opens_in_a_browser(
        self, lamella: Lamella, stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        self.open(monkeypatch, stack)
        shown: list[str] = []
        monkeypatch.setattr(history.webbrowser, "open", lambda url: shown.append(url) or True)
        stack.files().write(RunKeys("a").report_page, b"page")
        stack.files().write(RunKeys("a").report, b"{}")
        with Stubber(stack.clients.stepfunctions) as stub:
            for _ in range(2):
                stub.add_response("describe_execution", execution("a", "SUCCEEDED"))
            assert lamella("report", "a").exit_code == 0
        path = tmp_path / "state" / "reports" / "a.html"
        assert shown == [path.as_uri()]
        assert path.read_bytes() == b"page"

    def test_a_run_without_a_report_exits_2(
        self, lamella: Lamella, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.open(monkeypatch, stack)
        with Stubber(stack.clients.stepfunctions) as stub:
            for _ in range(3):
                stub.add_response("describe_execution", execution("a", "SUCCEEDED"))
            result = lamella("report", "a")
        assert result.exit_code == 2
        assert "run a has no report" in result.stderr

    def open(self, monkeypatch: pytest.MonkeyPatch, stack: Stack) -> None:
        open_cloud = OpenCloud(pid=1, checkout="x", stack="mine", environment={})
        monkeypatch.setattr(history, "find_open", lambda checkout: (open_cloud, stack))
