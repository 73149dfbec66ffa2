from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from lamella.client import Clients, Stack
from lamella.errors import PlanError, RunError
from lamella.manifest import Manifest
from lamella.progress import WorkerProgress
from lamella.quantities import size, usd
from lamella.verify import verify_files
from workflows.cli import local, prep, tables
from workflows.cli.app import build
from workflows.cli.console import Output
from workflows.cli.preflight import check_plan
from workflows.cli.progress import RunProgress
from workflows.cli.state import OpenCloud, find_open, record

Lamella = Callable[..., Result]
# Never called, so it needs no clients.
FOUND = Stack("s", "bucket", "arn", (), clients=cast("Clients", None))


def text_of(renderable: object) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


class TestPrep:
    def test_json_is_one_object_and_nothing_else(self, lamella: Lamella, tmp_path: Path) -> None:
        out = tmp_path / "m"
        result = lamella("prep", "alive:32x2", "--out", out, "--workers", 3, "--workers", 5, "--json")
        assert result.exit_code == 0, result.output
        report = json.loads(result.stdout)
        assert result.stdout.count("\n") == 1
        assert result.stderr == ""
        assert (report["layers"], report["features"], report["out"]) == (2, 32, str(out))
        assert {3, 5, 8} <= {cut["workers"] for cut in report["cuts"]}
        assert (out / "manifest.json").is_file()

    def test_table(self, lamella: Lamella, tmp_path: Path) -> None:
        result = lamella("prep", "alive:32x2", "--out", tmp_path / "m")
        assert "halo rows" in result.stdout
        assert result.exit_code == 0

    @pytest.mark.parametrize(
        ("network", "says"), [("alive:64x3", True), ("radixnet:1024x3", False), ("alive:64x1", False)]
    )
    def test_cuts_that_save_little_are_named(
        self, lamella: Lamella, tmp_path: Path, network: str, says: bool
    ) -> None:
        shown = lamella("prep", network, "--out", tmp_path / "m").stdout
        note = json.loads(lamella("prep", network, "--out", tmp_path / "m", "--json").stdout)["note"]
        assert ("save less than 10% of the halo rows" in shown) == says
        assert (note is not None and note in shown) == says

    def test_a_single_poor_cut_is_named_alone(self) -> None:
        cut = {"workers": 4, "halo_rows": 10, "saved": 0.5}
        assert tables.little_saved([cut, {"workers": 8, "halo_rows": 100, "saved": 0.1}]) == ""
        poor = tables.little_saved([cut, {"workers": 8, "halo_rows": 100, "saved": 0.09}])
        assert poor.startswith("the cut for 8 workers saves less than 10%")

    def test_bounds_reach_the_model(self, lamella: Lamella, tmp_path: Path) -> None:
        options = ("--hi", "none", "--lo", "-1.5", "--bias", "0.25", "--activation", "identity")
        assert lamella("prep", "radixnet:1024x1", "--out", tmp_path / "m", *options).exit_code == 0
        layer = json.loads((tmp_path / "m" / "manifest.json").read_text())["layers"][0]
        told = (layer["lo"], layer["hi"], layer["bias"], layer["activation"])
        assert told == (-1.5, None, 0.25, "identity")


class TestErrors:
    @pytest.fixture
    def failing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[BaseException], Result]:
        monkeypatch.setenv("LAMELLA_STATE_DIR", str(tmp_path / "state"))
        monkeypatch.delenv("LAMELLA_DEBUG", raising=False)

        def call(error: BaseException) -> Result:
            def fail(text: str) -> float | None:
                raise error

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(prep, "_bound", lambda name, text: fail(text))
                return CliRunner().invoke(build(), ["prep", "alive:32x2", "--out", "m", "--hi", "1"])

        return call

    def test_failed_run_exits_1(self, failing: Callable[[BaseException], Result]) -> None:
        result = failing(RunError("worker 3\nfailed"))
        assert (result.exit_code, result.stderr, result.stdout) == (1, "error: worker 3 failed\n", "")

    def test_ctrl_c_exits_130(self, failing: Callable[[BaseException], Result]) -> None:
        result = failing(KeyboardInterrupt())
        assert (result.exit_code, result.stderr) == (130, "stopped\n")

    def test_unexpected_error_keeps_its_traceback_in_a_file(
        self, failing: Callable[[BaseException], Result], tmp_path: Path
    ) -> None:
        result = failing(ZeroDivisionError("by\x1b[31m zero"))
        path = tmp_path / "state" / "last-error.txt"
        assert result.exit_code == 1
        assert result.stderr.splitlines() == [
            f"error: unexpected ZeroDivisionError: by?[31m zero (traceback: {path})"
        ]
        assert "Traceback" in path.read_text()

    def test_debug_shows_it(
        self, failing: Callable[[BaseException], Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LAMELLA_DEBUG", "1")
        assert "Traceback" in failing(ZeroDivisionError("zero")).stderr


def test_help_is_shown_without_arguments(lamella: Lamella) -> None:
    result = lamella()
    assert result.exit_code == 0
    for command in ("prep", "run", "local", "calibrate", "demo"):
        assert command in result.stdout


class TestOpenCloud:
    @pytest.fixture(autouse=True)
    def _state(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LAMELLA_STATE_DIR", str(tmp_path / "state"))

    def cloud(self, **more: object) -> OpenCloud:
        environment = {
            # Nothing listens there.
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        known: dict[str, object] = {
            "pid": os.getpid(),
            "checkout": "/c",
            "stack": "s",
            "environment": environment,
        }
        return OpenCloud.model_validate(known | more)

    def test_none_recorded(self) -> None:
        assert find_open(Path("/c")) is None

    def test_damaged_record(self, tmp_path: Path) -> None:
        record(self.cloud()).write_text("{")
        assert find_open(Path("/c")) is None

    @pytest.mark.parametrize("more", [{"checkout": "/another"}, {"pid": 2**22 + 1}, {"environment": {}}])
    def test_not_ours_or_not_alive(self, more: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
        record(self.cloud(**more))
        monkeypatch.setattr(Stack, "find", lambda *args: FOUND)
        assert find_open(Path("/c")) is None

    def test_alive(self, monkeypatch: pytest.MonkeyPatch) -> None:
        record(self.cloud())
        monkeypatch.setattr(Stack, "find", lambda *args: FOUND)
        assert find_open(Path("/c")) == (self.cloud(), FOUND)

    def test_does_not_answer(self) -> None:
        record(self.cloud())
        assert find_open(Path("/c")) is None

    def test_a_second_one_is_refused(self, lamella: Lamella, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local, "find_open", lambda _: (self.cloud(), FOUND))
        result = lamella("local")
        assert result.exit_code == 2
        assert "http://127.0.0.1:9" in result.stderr


def test_local_refuses_a_port_that_is_taken(lamella: Lamella) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = lamella("local", "--port", port)
    assert result.exit_code == 2
    assert f"port {port}" in result.stderr
    assert "--port" in result.stderr


class TestProgress:
    def line(self, message: str = "progress", worker: int = 0, **more: int) -> WorkerProgress:
        return WorkerProgress(message=message, run="r", worker=worker, **more)  # type: ignore[arg-type]

    def test_lines_in_any_order(self) -> None:
        progress = RunProgress("run r")
        for layer, live in [(2, 50), (1, 70), (2, 50)]:
            progress.apply(self.line(done=layer, layers=3, live=live))
        worker = progress.workers[0]
        assert (worker.layer, worker.layers, worker.live, worker.state) == (2, 3, 50, "running")

    def test_a_retry_starts_over_and_stale_lines_are_dropped(self) -> None:
        progress = RunProgress("run r")
        progress.apply(self.line(done=9, layers=10))
        progress.apply(self.line("joined", attempt=2))
        progress.apply(self.line(done=10, layers=10, attempt=1))
        assert (progress.workers[0].layer, progress.workers[0].state) == (0, "joined")

    def test_left_early_is_not_done(self) -> None:
        progress = RunProgress("run r")
        progress.apply(self.line(done=3, layers=10))
        progress.apply(self.line("ended"))
        progress.apply(self.line(done=10, layers=10, worker=1))
        progress.apply(self.line("ended", worker=1))
        assert [progress.workers[i].state for i in (0, 1)] == ["left", "done"]

    def test_a_row_for_each_worker(self) -> None:
        progress = RunProgress("run r")
        assert "planning" in text_of(progress.render())
        for worker in range(3):
            progress.apply(self.line(worker=worker, done=17, layers=120, live=9154))
        shown = text_of(progress.render())
        assert shown.count("17 / 120") == 3
        assert "9,154" in shown
        assert "collecting" not in shown
        for worker in range(3):
            progress.apply(self.line("ended", worker=worker, done=120, layers=120))
        assert "collecting" in text_of(progress.render())


class TestTables:
    @pytest.mark.parametrize(
        ("amount", "shown"), [(0, "$0"), (0.0215321, "$0.02153"), (1.5, "$1.5000"), (0.0000123, "$1.23e-05")]
    )
    def test_usd(self, amount: float, shown: str) -> None:
        assert usd(amount) == shown

    @pytest.mark.parametrize(
        ("count", "shown"), [(0, "0 B"), (999, "999 B"), (104131260, "104.1 MB"), (5e13, "50.0 TB")]
    )
    def test_size(self, count: float, shown: str) -> None:
        assert size(count) == shown

    def test_sparkline(self) -> None:
        assert tables.sparkline([8, 4, 0]) == "█▅▁"
        assert tables.sparkline([]) == ""
        assert tables.sparkline([0, 0]) == "▁▁"
        assert len(tables.sparkline([1.0] * 120, width=60)) == 60

    def test_of_a_run(self) -> None:
        answer = {
            "run_id": "r",
            "status": "SUCCEEDED",
            "strategy": "rows",
            "channel": "[bold]",
            "workers": 8,
            "samples": 10_000,
            "seconds": {"total": 3.0, "infer": 1.0},
            "categories": 337,
            "cost_usd": {"lambda": 0.001, "total": 0.001},
        }
        shown = text_of(tables.run_table(answer))
        assert "rows, [bold], 8 workers" in shown
        assert "337" in shown
        more = {"strategy": "hybrid", "groups": 4, "micro_batches": 3}
        shown = text_of(tables.run_table(answer | more))
        assert "hybrid, [bold], 8 workers in 4 groups, 3 micro-batches" in shown
        assert "launched once more" not in shown
        failed = [{"error": "WorkerError", "cause": "worker 2 failed", "seconds": 1.0}]
        shown = text_of(tables.run_table(answer | {"failed_attempts": failed}))
        assert "worker 2 failed: launched once more" in shown


def test_paths_are_neither_wrapped_nor_markup(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/tmp/[bold]/" + "long/" * 40
    Output(as_json=False).result({}, path)
    assert capsys.readouterr().out == f"{path}\n"


def test_progress_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=True)
    output.say("working")
    output.result({"a": [1]}, "table")
    assert capsys.readouterr() == ('{"a": [1]}\n', "")


class TestPlanCheck:
    @pytest.fixture
    def manifest(self, prepared: Path) -> Manifest:
        return verify_files(prepared)

    def test_more_workers_than_slots(self, manifest: Manifest) -> None:
        with pytest.raises(PlanError, match="8 workers need 8 slots and 3 are deployed"):
            check_plan(manifest, 10, "rows", "sns", 8, slots=3)
        check_plan(manifest, 10, "rows", "auto", 8, slots=3)

    def test_more_workers_than_samples(self, manifest: Manifest) -> None:
        with pytest.raises(PlanError, match="5 workers are more than the 3 samples"):
            check_plan(manifest, 3, "samples", "auto", 5, slots=None)

    @pytest.mark.parametrize(
        ("strategy", "workers"),
        [("auto", None), ("auto", 4), ("samples", 3), ("rows", 8), ("pipeline", 2), ("hybrid", 12)],
    )
    def test_what_can_be_had(self, manifest: Manifest, strategy: str, workers: int | None) -> None:
        check_plan(manifest, None, strategy, "auto", workers, slots=None)
