"""``lamella plan`` and ``lamella prices``."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from lamella.cost import book_for, book_names, load_book
from model_prep.readers import open_source
from model_prep.writer import write_model
from workflows.charts import Axis, Series, chart
from workflows.cli.app import build


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plan") / "m"
    write_model(open_source("radixnet:256x6"), out, workers=[2, 4])
    return out


def lamella(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        build()([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return int(str(ended.value.code or 0)), shown.out, shown.err


def test_every_candidate_has_seconds_dollars_and_a_bound(
    model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    picture = tmp_path / "plans.svg"
    code, out, _ = lamella(capsys, "plan", model, "--samples", 1000, "--json", "--plot", picture)
    answer = json.loads(out)
    assert code == 0
    assert {row["plan"]["strategy"] for row in answer["candidates"]} >= {"serial", "samples", "rows"}
    for row in answer["candidates"]:
        assert row["seconds"] > 0
        assert row["usd"] > 0
        assert row["bound"] in {"reading", "computing", "latency", "start"}
    fastest = min(row["seconds"] for row in answer["candidates"])
    assert answer["chosen"]["seconds"] <= 2 * fastest
    assert answer["chosen"]["front"]
    assert answer["s3_express"]["seconds"] < answer["s3_express"]["seconds_without"]
    assert {row["constant"] for row in answer["sensitivity"]} > {"kernel.sparse_per_s", "sns.hop"}
    dots = [each for each in ET.parse(picture).iter() if each.tag.endswith("circle") and each.get("class")]
    assert len(dots) == len(answer["candidates"]) + 1


def test_a_table_and_a_line_for_people(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = lamella(capsys, "plan", model, "--samples", 1000, "--deadline", 60)
    assert code == 0
    assert "chosen: serial, 1,024 MB: " in out
    assert "S3 Express One Zone: " in out
    assert "every sample lives" in out
    assert "aws-2026-11; us-east-1-2026-11; 1,000 concurrent executions, 32 slots" in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--budget", "1e-9"), "no plan keeps to $1e-09"),
        (("--deadline", "-1"), "--deadline -1: give a number of more than 0"),
        (("--plot", "x.png"), "name a file that ends with .svg"),
        (("--architecture", "mips"), "use x86_64 or arm64"),
        (("--strategy", "row"), "did you mean 'rows'"),
        (("--profile", "none"), "there is no profile 'none'"),
        (("--workers", "3", "--strategy", "rows"), "no cut for 3 workers"),
    ],
)
def test_refusals(
    model: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], says: str
) -> None:
    code, out, err = lamella(capsys, "plan", model, "--samples", 10, *options)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_prices_are_shown_with_their_date_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = lamella(capsys, "prices", "--region", "eu-west-1")
    assert "us-east-1-2026-11" in out
    assert "2026-11" in out
    assert "lambda_gb_second, arm64" in out
    _, out, _ = lamella(capsys, "prices", "--region", "eu-central-1", "--json")
    assert json.loads(out)["s3_put_request"]["usd"] == 5.4
    code, _, err = lamella(capsys, "prices", "--book", "none")
    assert code == 2
    assert "there is no price book 'none'" in err


def test_a_region_has_the_book_with_its_prices() -> None:
    assert book_for("eu-west-1") == "us-east-1-2026-11"
    assert book_for("eu-west-2") == "eu-west-2-2026-11"
    assert book_for("mars-1") == "us-east-1-2026-11"
    for name in book_names():
        book = load_book(name)
        assert set(book.lambda_gb_second) == {"x86_64", "arm64"}
    # What a region's book does not say is as in us-east-1, but not servers.
    london = load_book("eu-west-2-2026-11")
    assert london.sqs_request == load_book().sqs_request
    assert not london.servers


def test_a_chart_names_and_escapes_what_it_shows() -> None:
    axis = Axis.over("x", [0.1, 100.0])
    assert axis.ticks() == [0.1, 1.0, 10.0, 100.0]
    assert Axis.over("x", [3.0]).share(3.0) == pytest.approx(0.5)
    text = chart("<b>", axis, axis, [Series("a & b", [(1.0, 1.0)], "dots", ["<i>"])])
    titles = [each.text for each in ET.fromstring(text).iter() if each.tag.endswith("title")]
    assert titles == ["<b>", "<i>"]
