from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.chaos import Result, figures, good
from benchmarks.chaos_trials import CHANNELS, KINDS, SILENT, STRATEGIES, trial
from benchmarks.soak import Look, Soak
from workflows.embedded_cloud.faults.rules import FAULTS, parse_rules

EXACT = Result(
    seed=0,
    kind="kill",
    request={"strategy": "rows"},
    disturbance="",
    outcome="exact",
    typed=True,
    seconds=3.0,
    killed=1,
    attempts=1,
    cause="",
    leaks=(),
)
CLEAN = replace(EXACT, seed=-1, seconds=1.0, killed=0)


def test_a_seed_is_always_the_same_trial() -> None:
    assert [trial(seed) for seed in range(50)] == [trial(seed) for seed in range(50)]


def test_seeds_are_of_every_kind_strategy_channel_and_fault() -> None:
    trials = [trial(seed) for seed in range(500)]
    assert {each.kind for each in trials} == set(KINDS)
    assert {each.request["strategy"] for each in trials} == set(STRATEGIES)
    assert {each.request.get("channel") for each in trials} == {*CHANNELS, None}
    assert all("channel" not in each.request for each in trials if each.request["strategy"] in SILENT)
    assert {rule["fault"] for each in trials for rule in each.rules} == set(FAULTS)
    assert any(each.stop_after_s for each in trials)
    assert any(each.delete_queue_after_s for each in trials)


@pytest.mark.parametrize("seed", range(100))
def test_every_rule_is_one_that_the_embedded_cloud_takes(seed: int) -> None:
    assert len(parse_rules(list(trial(seed).rules))) == len(trial(seed).rules)


def test_seconds_lost_are_over_those_of_the_same_run_undisturbed() -> None:
    summary = figures([CLEAN, replace(CLEAN, request={"strategy": "serial"}, seconds=2.5), EXACT])
    assert (summary["runs"], summary["resumed_share"], summary["median_lost_s"]) == (1, 1.0, 2.0)
    assert good(summary)


@pytest.mark.parametrize(
    ("result", "counted"),
    [
        (replace(EXACT, seed=7, outcome="wrong", typed=False), "wrong"),
        (replace(EXACT, seed=7, outcome="hung", typed=False), "hung"),
        (replace(EXACT, seed=7, leaks=("queue q",)), "leaked"),
    ],
)
def test_what_may_not_happen_is_counted_and_its_seed_named(result: Result, counted: str) -> None:
    summary = figures([CLEAN, result])
    assert (summary[counted], summary["seeds_failed"]) == (1, [7])
    assert not good(summary)


def test_a_gang_that_was_run_again_did_not_go_on() -> None:
    summary = figures(
        [CLEAN, *[EXACT] * 18, replace(EXACT, attempts=2), replace(EXACT, outcome="WorkerError")]
    )
    assert summary["resumed_share"] == 0.9
    assert not good(summary)


def test_a_cloud_that_grows_is_seen() -> None:
    looks = tuple(Look(n, 1000, 50, 8) for n in range(20))
    flat = Soak(1, 20, 1.0, (), (), looks)
    assert flat.good
    growing = replace(flat, looks=tuple(replace(each, open_files=50 + each.runs) for each in looks))
    assert not growing.good
    assert not replace(flat, leaks=("queue q",)).good
    assert not replace(flat, failures=("run 3",)).good
