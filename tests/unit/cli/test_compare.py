"""``lamella compare``, and the arithmetic of a day."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from lamella.cost import load_book
from lamella.errors import InputError
from model_prep.readers import open_source
from model_prep.writer import write_model
from tests.unit.cli.test_plan import lamella
from workflows.daily import Way, cheapest, crossing


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compare") / "m"
    write_model(open_source("radixnet:256x6"), out, workers=[2])
    return out


def test_a_crossing_is_where_the_other_begins_to_cost_less() -> None:
    ours, server = Way("ours", 1.0, 0.01), Way("server", 1.0, 0.0, 2.0, 1000)
    assert crossing(ours, server) == 201
    assert server.usd(201) < ours.usd(201)
    assert server.usd(200) >= ours.usd(200)
    assert crossing(ours, Way("dear", 1.0, 0.02)) is None
    assert crossing(ours, Way("cheap", 1.0, 0.001)) == 1
    assert crossing(ours, Way("none", 1.0, 0.001, reason="too large")) is None


def test_a_server_that_is_full_needs_another() -> None:
    server = Way("server", 1.0, 0.0, 2.0, 1000)
    assert [server.usd(runs) for runs in (1, 1000, 1001)] == [2.0, 2.0, 4.0]
    # So a slow one never wins, however many there are.
    assert crossing(Way("ours", 1.0, 0.001), server) is None
    assert cheapest([Way("ours", 1.0, 0.01), server], 500).name == "server"


def test_all_ways_are_told_beside_lamella(
    model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    picture = tmp_path / "day.svg"
    options = ("--samples", 1000, "--runs-per-day", 10, "--plot", picture)
    code, out, _ = lamella(capsys, "compare", model, *options, "--json")
    answer = json.loads(out)
    assert code == 0
    names = [way["name"].partition(",")[0].split()[0] for way in answer["ways"]]
    assert names == ["Lamella", "EC2", "EC2", "SageMaker", "Batch"]
    assert all(way["usd_a_day"] > 0 for way in answer["ways"])
    always_on = answer["ways"][1]
    assert always_on["usd_a_day"] == pytest.approx(24 * load_book().servers["ec2"].hour.usd, rel=0.05)
    lines = [each for each in ET.parse(picture).iter() if each.get("class") == "line"]
    assert len(lines) == 5


def test_it_is_said_where_lamella_loses(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = lamella(capsys, "compare", model, "--samples", 1000, "--runs-per-day", 100_000, "--json")
    answer = json.loads(out)
    assert answer["cheapest"].startswith("EC2 c7i.large, always on")
    at = answer["ways"][1]["cheaper_than_lamella_from"]
    _, out, _ = lamella(capsys, "compare", model, "--samples", 1000, "--runs-per-day", 100_000)
    assert "Lamella loses to: EC2 c7i.large, always on" in out
    assert f"from {at:,} runs a day" in out


def test_what_fits_no_other_machine_is_said(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = ("--samples", 5_000_000, "--runs-per-day", 1, "--json")
    _, out, _ = lamella(capsys, "compare", model, *many)
    reasons = {way["name"]: way["reason"] for way in json.loads(out)["ways"]}
    assert reasons["Lamella"] == ""
    assert "GiB and c7i.large has 4" in reasons["EC2 c7i.large, always on"]
    assert "6144 are most" in reasons["SageMaker Serverless"]


def test_a_region_without_prices_of_servers_is_refused(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--samples", 10, "--runs-per-day", 1, "--region", "eu-west-2")
    code, _, err = lamella(capsys, "compare", model, *options)
    assert code == InputError.exit_code
    assert "eu-west-2-2026-11 has no prices of servers" in err
