"""How predictions are judged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks import planner_gap
from benchmarks.paper_fit import batch_seconds, errors_of_halves, fitted
from benchmarks.predict import paper_dollars, residuals
from lamella.cost import load_book
from lamella.prediction.profile import load_profile
from workflows.paper import MEASUREMENTS, OBJECT, QUEUE


def test_all_configurations_are_judged() -> None:
    assert len(MEASUREMENTS) == 36
    assert len(QUEUE) + len(OBJECT) == 35  # without the cut drawn at random


def test_the_papers_dollars_follow_from_its_counts() -> None:
    errors = paper_dollars(MEASUREMENTS)
    assert len(errors) == 32
    assert max(errors) < 1e-3


def test_half_of_the_papers_seconds_tell_the_other_half() -> None:
    errors = errors_of_halves(MEASUREMENTS)
    assert np.median(np.abs(errors)) < 0.10
    assert np.abs(errors).max() < 0.35
    worst = residuals(MEASUREMENTS, errors.tolist())[0]
    assert abs(worst["error"]) == np.abs(errors).max()


def test_so_do_halves_drawn_at_random() -> None:
    random = np.random.default_rng(0)
    medians = []
    for _ in range(20):
        rows = [MEASUREMENTS[i] for i in random.permutation(len(MEASUREMENTS))]
        medians.append(np.median(np.abs(errors_of_halves(rows))))
    assert max(medians) < 0.15


def test_the_stored_profile_is_what_a_fit_gives() -> None:
    stored, found = dict(load_profile("paper").constants()), dict(fitted(MEASUREMENTS).constants())
    for place, constant in found.items():
        # As exact as they are written, whatever solves it.
        mine, theirs = constant.model_dump(), stored[place].model_dump()
        assert mine.pop("source") == theirs.pop("source"), place
        mine.pop("unit", None), theirs.pop("unit", None)
        assert mine == pytest.approx(theirs, rel=2e-3), place


def test_a_fit_finds_the_constants_that_made_the_seconds() -> None:
    truth = fitted(MEASUREMENTS)
    made = [dataclasses.replace(row, batch_seconds=batch_seconds(row, truth)) for row in MEASUREMENTS]
    assert np.abs(errors_of_halves(made)).max() < 2e-3


def test_the_choice_by_formula_is_the_best_by_simulation() -> None:
    case = planner_gap.cases()[0]
    found = planner_gap.gap(case, load_profile(), load_book())
    assert found["gap"] == 0.0
    assert found["chosen"] == found["best"]
