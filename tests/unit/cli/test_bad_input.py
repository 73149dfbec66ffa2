"""Bad input: exit 2, one line on stderr that says what, where and what to do; nothing started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

Lamella = Callable[..., Result]


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


class TestRun:
    def test_no_such_model(self, lamella: Lamella, batch: Path, tmp_path: Path) -> None:
        refused(lamella("run", tmp_path / "gone", "--input", batch), str(tmp_path / "gone"), "lamella prep")

    def test_not_a_prepared_model(self, lamella: Lamella, batch: Path, tmp_path: Path) -> None:
        refused(
            lamella("run", tmp_path, "--input", batch), str(tmp_path), "not a prepared model", "lamella prep"
        )
        refused(lamella("run", batch, "--input", batch), str(batch), "not a prepared model")
        (tmp_path / "manifest.json").write_text('{"format": "another"}')
        refused(lamella("run", tmp_path, "--input", batch), "manifest.json", "lamella prep")

    def test_hash_that_does_not_match(self, lamella: Lamella, model: Path, batch: Path) -> None:
        damaged = next(model.glob("weights-*"))
        data = bytearray(damaged.read_bytes())
        data[-1] ^= 0xFF
        damaged.write_bytes(data)
        refused(lamella("run", model, "--input", batch), str(damaged), "sha256 differs")

    def test_no_such_input(self, lamella: Lamella, model: Path, tmp_path: Path) -> None:
        refused(
            lamella("run", model, "--input", tmp_path / "gone.npy"), str(tmp_path / "gone.npy"), "--input"
        )
        refused(lamella("run", model, "--input", tmp_path / "gone.xyz"), ".xyz", ".npy")

    def test_features_that_do_not_match(self, lamella: Lamella, model: Path, tmp_path: Path) -> None:
        np.save(tmp_path / "wide.npy", np.ones((3, 13), np.float32))
        refused(lamella("run", model, "--input", tmp_path / "wide.npy"), "wide.npy", "12", "13")

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, lamella: Lamella, model: Path, tmp_path: Path, value: float) -> None:
        values = np.ones((3, 12), np.float32)
        values[1, 5] = value
        np.save(tmp_path / "bad.npy", values)
        refused(lamella("run", model, "--input", tmp_path / "bad.npy"), "bad.npy")

    @pytest.mark.parametrize("line", ["0\t1\t1", "5\t1\t1", "1\t13\t1", "x"])
    def test_graph_challenge_lines(self, lamella: Lamella, model: Path, tmp_path: Path, line: str) -> None:
        path = tmp_path / "images.tsv"
        path.write_text(f"1\t1\t1\n{line}\n")
        refused(lamella("run", model, "--input", path, "--samples", 4), "images.tsv")

    def test_more_workers_than_rows(self, lamella: Lamella, model: Path, batch: Path) -> None:
        result = lamella("run", model, "--input", batch, "--strategy", "rows", "--workers", 9)
        refused(result, "9 workers", "8 rows")

    def test_no_cut(self, lamella: Lamella, model: Path, batch: Path) -> None:
        result = lamella("run", model, "--input", batch, "--strategy", "rows", "--workers", 3)
        refused(result, "no cut for 3 workers", "2, 4, 8", "--workers 3")

    @pytest.mark.parametrize(
        ("option", "given", "nearest"),
        [("--strategy", "row", "rows"), ("--strategy", "serail", "serial"), ("--channel", "snss", "sns")],
    )
    def test_unknown_name(
        self, lamella: Lamella, model: Path, batch: Path, option: str, given: str, nearest: str
    ) -> None:
        refused(
            lamella("run", model, "--input", batch, option, given), f"'{given}'", f"did you mean '{nearest}'?"
        )

    def test_s3_without_a_cloud(self, lamella: Lamella, model: Path, batch: Path) -> None:
        refused(
            lamella("run", "s3://b/models/m/", "--input", batch),
            "s3://b/models/m/",
            "--stack",
            "lamella local",
        )
        refused(lamella("run", model, "--input", "s3://b/i.npy"), "s3://b/", "--stack")

    def test_output_is_a_file(self, lamella: Lamella, model: Path, batch: Path) -> None:
        refused(lamella("run", model, "--input", batch, "--output", batch), f"--output {batch} is a file")


class TestUsage:
    def test_missing_argument(self, lamella: Lamella) -> None:
        refused(lamella("run"), "MODEL", "lamella run --help")

    def test_unknown_option(self, lamella: Lamella) -> None:
        refused(lamella("run", "m", "--inputt", "x"), "--inputt", "--input")

    def test_unknown_command(self, lamella: Lamella) -> None:
        refused(lamella("rum"), "'rum'", "'run'")

    @pytest.mark.parametrize(("workers", "why"), [("0", "1"), ("many", "integer")])
    def test_no_number_of_workers(self, lamella: Lamella, workers: str, why: str) -> None:
        refused(lamella("run", "m", "--input", "x", "--workers", workers), "--workers", why)


class TestPrep:
    def test_no_such_source(self, lamella: Lamella, tmp_path: Path) -> None:
        refused(lamella("prep", tmp_path / "gone", "--out", tmp_path / "m"), str(tmp_path / "gone"))
        assert not (tmp_path / "m").exists()

    def test_unknown_partitioner(self, lamella: Lamella, tmp_path: Path) -> None:
        result = lamella("prep", "alive:32x2", "--out", tmp_path / "m", "--partitioner", "overlp")
        refused(result, "overlp", "overlap")

    @pytest.mark.parametrize("bound", ["--lo", "--hi"])
    def test_bound_that_is_no_number(self, lamella: Lamella, tmp_path: Path, bound: str) -> None:
        result = lamella("prep", "alive:32x2", "--out", tmp_path / "m", bound, "much")
        refused(result, f"{bound} 'much'", "none")

    def test_never_replaces_what_is_no_model(self, lamella: Lamella, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("dear")
        refused(lamella("prep", "alive:32x2", "--out", tmp_path), str(tmp_path))
        assert (tmp_path / "thesis.txt").read_text() == "dear"


def test_demo_without_the_images_it_was_promised(
    lamella: Lamella, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMELLA_GRAPH_CHALLENGE", str(tmp_path))
    refused(lamella("demo"), "LAMELLA_GRAPH_CHALLENGE", str(tmp_path))
