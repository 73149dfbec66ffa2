"""Names that would inject into logs, terminals, HTML, a shell or a spreadsheet: shown, never obeyed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lamella.errors import BatchError, InputError, LamellaError, PlanError, printable
from lamella.events import FinishEvent, PlanEvent, RecoverEvent, UploadEvent, WorkerEvent, parse_request
from lamella.inputs import read_batch
from lamella.intake import InputObject, is_batch
from lamella.layout import RunKeys
from lamella.storage import split_s3_uri
from workflows.cli.app import build

INJECTIONS = [
    'a\n{"level": "ERROR", "message": "forged"}.csv',
    "a\r\nforged.csv",
    "a\u2028forged.csv",
    "\x1b[2J\x1b[31mred.csv",
    "\u202efdp.csv",
    "a\0b.csv",
    "$(touch injected).csv",
    "`touch injected`; touch injected #.csv",
    "--help.csv",
    "<script>alert(1)</script>.csv",
    "[red]markup[/red].csv",
    "%s%n{0}{self.__class__}.csv",
]


@pytest.mark.parametrize("name", INJECTIONS)
def test_an_error_shows_a_name_on_one_line_that_prints(name: str) -> None:
    for error in (LamellaError(f"{name}: is wrong"), InputError(name)):
        assert str(error).isprintable()
    with pytest.raises(BatchError) as caught:
        read_batch(b"x,y\n1,2\n", name, 3)
    assert str(caught.value).isprintable()
    assert len(str(caught.value).splitlines()) == 1


def test_what_prints_stays_as_it_is() -> None:
    assert printable("s3://b/\u00fcber/\u6f22.csv: <b> isn't") == "s3://b/\u00fcber/\u6f22.csv: <b> isn't"
    assert printable("one\n  two\x1b[m") == "one two\\x1b[m"


@pytest.mark.parametrize("name", INJECTIONS)
def test_the_run_of_an_upload_has_a_harmless_name(name: str) -> None:
    item = InputObject("bucket", f"inputs/{name}", "etag")
    assert item.run.replace("-", "").isalnum()
    assert item.run.isascii()
    assert len(item.run) <= 80
    if "\n" in name:
        assert not is_batch(item.key)
    assert json.loads(json.dumps(UploadEvent.parse({"bucket": "b", "key": item.key}).key)) == item.key


@pytest.mark.parametrize(
    "run", [".", "..", "a/b", "../a", "a\n", "<b>", "$(x)", "a;b", "a|b", "a b", "", "x" * 81, 7]
)
def test_a_run_s_name_is_no_path_and_no_markup(run: object) -> None:
    for kind, rest in (
        (PlanEvent, {"execution": "arn", "request": {}}),
        (WorkerEvent, {"attempt": 1, "worker": 0}),
        (FinishEvent, {"execution": "arn", "status": "FAILED"}),
        (RecoverEvent, {"execution": "arn", "attempt": 1, "error": {"Error": "E", "Cause": "c"}}),
    ):
        with pytest.raises(InputError, match=f"{kind.__name__}, run: ") as caught:
            kind.parse({"run": run, **rest})
        assert str(caught.value).isprintable()


def test_a_run_s_keys_stay_below_its_prefix() -> None:
    for run in ("a", "...", "-rf", "=1+1"):
        keys = RunKeys(PlanEvent.parse({"execution": "arn", "run": run, "request": 1}).run)
        assert keys.plan.startswith(f"runs/{run}/")


@pytest.mark.parametrize(
    "request_",
    [
        {"model": "s3://b/m\n", "input": "s3://b/i.csv"},
        {"model": "s3://b/" + "m" * 5000, "input": "s3://b/i.csv"},
        {"model": "file:///etc/passwd", "input": "s3://b/i.csv"},
        {"model": "s3://b/m", "input": "s3://b/i.csv", "id_column": "x" * 100_000},
        {"model": "s3://b/m", "input": "s3://b/i.csv", "workers": 10**30, "x\x1b[2J": 1},
        {"model": "s3://b/m", "input": "s3://b/i.csv", "strategy": "<script>" * 10_000},
        {"model": "s3://b/m", "input": {"$ref": "x"}},
        ["s3://b/m"],
        None,
    ],
)
def test_a_hostile_request_is_one_short_line(request_: object) -> None:
    with pytest.raises((InputError, PlanError)) as caught:
        parse_request(request_)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_an_address_is_split_and_never_fetched() -> None:
    with pytest.raises(InputError, match="is no S3 address"):
        split_s3_uri("https://example.com/x")


@pytest.mark.parametrize("name", [name for name in INJECTIONS if "/" not in name and "\0" not in name])
def test_the_command_line_shows_a_file_s_name_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "w.npy", np.ones((2, 2), np.complex64))
    (tmp_path / "w.npy").rename(tmp_path / f"{name}.npy")
    result = CliRunner().invoke(build(), ["prep", "--out", "out", "--", f"{name}.npy"])
    assert result.exit_code == 2
    assert result.stderr.strip("\n").isprintable()
    assert not (tmp_path / "injected").exists()
