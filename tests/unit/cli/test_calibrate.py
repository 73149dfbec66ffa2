"""What is measured becomes a profile, and what a calibration costs is said before."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from lamella.cost import load_book
from lamella.plan import ChannelName
from lamella.prediction import Activity, Profile, Workload, load_profile, simulate
from lamella.prediction.analytic import Shape, butterfly_halo, rows_workload
from workflows.calibration import Observation, calibrated, expected_usd, measure_codec, measure_kernel, trials
from workflows.calibration.trials import LAYERS, Trial

Lamella = Callable[..., Result]
CHANNELS: tuple[ChannelName, ...] = ("sns", "sqs", "s3")
TODAY = date(2026, 11, 24)


def workload(trial: Trial) -> Workload:
    plan = trial.plan
    halo = butterfly_halo(1024, plan.row_workers)
    return rows_workload(Shape(1024, LAYERS), plan, Activity.all_alive(LAYERS), halo)


def summary(load: Workload, profile: Profile, *, cold: bool) -> dict[str, Any]:
    """Of a run as the simulator has it, for which the kernel takes exactly its products over its speed."""
    run = simulate(load, profile, load_book(), cold=cold)
    join_s = profile.states.join_s.value
    vcpus = min(profile.vcpus(load.plan.memory_mb), 1.0)
    products = load.of_workers(load.steps.sparse) / profile.kernel.sparse_per_s.value / vcpus
    compute_s = products + load.of_workers(load.steps.layers) * profile.kernel.layer_s.value
    return {
        "seconds": {
            "total": run.seconds.total,
            "prepare": run.seconds.prepare,
            "infer": run.seconds.infer,
        },
        "workers_detail": [
            {
                "seconds": {"started": joined - join_s, "joined": joined, "ended": ended},
                "steps": [{"compute_s": compute, "read_s": profile.s3.get.median}],
            }
            for joined, ended, compute in zip(run.joined_s, run.ended_s, compute_s, strict=True)
        ],
    }


def observed(profile: Profile) -> dict[str, Observation]:
    loads = {trial: workload(trial) for trial in trials(CHANNELS, large=True)}
    return {
        trial.name: Observation(load, summary(load, profile, cold=trial.cold))
        for trial, load in loads.items()
    }


def test_a_calibration_finds_what_the_runs_were_made_with() -> None:
    truth = load_profile()
    for place, factor in (("kernel.sparse_per_s", 0.01), ("sqs.hop", 4.0), ("functions.init", 3.0)):
        truth = truth.with_scaled(place, factor)
    found = calibrated(load_profile(), "mine", TODAY, observed(truth))
    assert found.kernel.sparse_per_s.value == pytest.approx(truth.kernel.sparse_per_s.value, rel=0.01)
    assert found.sqs.hop.median == pytest.approx(truth.sqs.hop.median, rel=0.4)
    assert found.sns.hop.median == pytest.approx(truth.sns.hop.median, rel=0.4)
    assert found.s3_channel.hop.median == pytest.approx(truth.s3_channel.hop.median, rel=0.4)
    assert found.functions.init.median == pytest.approx(truth.functions.init.median, rel=0.4)


def test_what_was_measured_says_so_and_the_rest_stays() -> None:
    base = load_profile()
    found = calibrated(base, "mine", TODAY, observed(base))
    assert (found.name, found.looked_up) == ("mine", "2026-11-24")
    assert found.functions.bytes_per_s == base.functions.bytes_per_s
    assert found.sqs.hop.source.startswith("lamella calibrate, 2026-11-24")
    assert Profile.model_validate_json(found.to_json()) == found


def test_a_machine_is_shared_by_all_workers() -> None:
    base = load_profile()
    found = calibrated(base, "here", TODAY, observed(base), processors=2)
    assert found.vcpus(1769, workers=8) == 0.25
    assert found.step_functions.transition_s.value == 0
    assert found.sqs.calls_per_s.value < base.sqs.calls_per_s.value


def test_what_large_letters_take_is_told_by_those_that_are() -> None:
    slow = load_profile().with_scaled("sqs.bytes_per_s", 0.01)
    found = calibrated(load_profile(), "here", TODAY, observed(slow), processors=64)
    assert found.sqs.bytes_per_s.value == pytest.approx(slow.sqs.bytes_per_s.value, rel=0.5)
    assert found.sns.bytes_per_s.value > 20 * found.sqs.bytes_per_s.value


def test_this_machine_multiplies_and_encodes() -> None:
    kernel, codec = measure_kernel(), measure_codec()
    assert min(kernel.sparse_per_s, kernel.dense_per_s) > 1e6
    assert 0 < kernel.layer_s < 1
    assert min(codec.encode_bytes_per_s, codec.decode_bytes_per_s) > 1e5
    assert 1 < codec.cell_bytes < 4


def test_a_calibration_costs_cents() -> None:
    assert 0.0005 < expected_usd(trials(CHANNELS), load_profile(), load_book()) < 0.10


def test_it_has_to_be_told_what_to_measure(lamella: Lamella, tmp_path: Path) -> None:
    for options in ((), ("--local", "--stack", "mine")):
        result = lamella("calibrate", *options)
        assert result.exit_code == 2
        assert "--local, or --stack NAME" in result.stderr
    result = lamella("calibrate", "--local", "--output", tmp_path / "x.txt")
    assert result.exit_code == 2
    assert "ends with .json" in result.stderr


def test_a_stack_is_not_run_on_before_it_was_said_what_it_costs(
    lamella: Lamella, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[object] = []
    base = load_profile()
    monkeypatch.setattr("workflows.cli.calibrate.Stack.find", lambda name, clients: name)
    monkeypatch.setattr("workflows.cli.calibrate.Clients.connect", lambda: None)

    def run(*args: object, **_: object) -> dict[str, Observation]:
        ran.append(args)
        return observed(base)

    monkeypatch.setattr("workflows.cli.calibrate.run_trials", run)
    refused = lamella("calibrate", "--stack", "mine", "--output", tmp_path / "mine.json")
    assert "will cost some $0.0" in refused.stderr
    assert not ran
    assert refused.exit_code != 0
    done = lamella("calibrate", "--stack", "mine", "--yes", "--json", "--output", tmp_path / "mine.json")
    assert done.exit_code == 0, done.output
    assert len(ran) == 1
    assert json.loads(done.stdout)["profile"] == str(tmp_path / "mine.json")
    assert load_profile(str(tmp_path / "mine.json")).name == "mine"
