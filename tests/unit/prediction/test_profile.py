"""Profiles are whole, say where they are from, and give quantiles back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.errors import InputError
from lamella.prediction.profile import Constant, Quantiles, load_profile, profile_names


@pytest.mark.parametrize("name", profile_names())
def test_every_constant_has_a_source(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    found = dict(profile.constants())
    assert len(found) == len(list(profile.constants())) > 40
    assert all(constant.source for constant in found.values())


def test_the_two_profiles_are_there() -> None:
    assert profile_names() == ("aws-2026-11", "paper")


def test_one_constant_is_scaled_and_no_other() -> None:
    profile = load_profile()
    changed = dict(profile.with_scaled("sqs.hop", 2.0).constants())
    for place, constant in profile.constants():
        expected = constant.scaled(2.0) if place == "sqs.hop" else constant
        assert changed[place] == expected


def test_express_answers_sooner_and_is_the_same_elsewhere() -> None:
    profile = load_profile()
    express = profile.with_s3_express()
    times, usual = express.channel("s3"), profile.channel("s3")
    assert times is not None
    assert usual is not None
    assert times.hop.median < usual.hop.median / 5
    assert (express.sqs, express.kernel) == (profile.sqs, profile.kernel)


def test_functions_have_processors_by_memory_but_no_more_than_there_are() -> None:
    profile = load_profile()
    assert profile.vcpus(1769) == 1.0
    assert profile.vcpus(20 * 1769) == 6.0
    shared = profile.model_copy(update={"processors": Constant(value=2, unit="vCPU", source="test")})
    assert shared.vcpus(1769, workers=8) == 0.25
    assert shared.vcpus(1769, workers=1) == 1.0


def quantiles(median: float, p90: float, p99: float) -> Quantiles:
    return Quantiles(median=median, p90=p90, p99=p99, source="test")


def test_quantiles_are_what_they_say() -> None:
    hop = quantiles(0.016, 0.034, 0.105)
    assert hop.at_z(0.0) == pytest.approx(0.016)
    assert hop.at_z(1.2815515655) == pytest.approx(0.034)
    assert hop.at_z(2.3263478740) == pytest.approx(0.105)
    assert hop.longest_of(1) == pytest.approx(0.016)
    assert hop.longest_of(0) == 0.0


@given(st.floats(1, 1e6), st.floats(1, 100))
def test_the_longest_of_more_is_longer(count: float, more: float) -> None:
    hop = quantiles(0.016, 0.034, 0.105)
    assert hop.longest_of(count * more) >= hop.longest_of(count) > 0


def test_what_varies_not_is_always_as_long() -> None:
    assert quantiles(0.5, 0.5, 0.5).longest_of(1000) == pytest.approx(0.5)
    assert quantiles(0, 0, 0).longest_of(1000) == 0.0
    assert quantiles(0.5, 0.5, 0.5).mean == pytest.approx(0.5)


def test_quantiles_ascend() -> None:
    with pytest.raises(ValueError, match="at most p90"):
        quantiles(2.0, 1.0, 3.0)


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(load_profile().to_json())
    assert load_profile(str(path)) == load_profile()


def test_what_is_no_profile_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no profile 'nowhere': use aws-2026-11, paper"):
        load_profile("nowhere")
    with pytest.raises(InputError, match="lamella calibrate"):
        load_profile(str(tmp_path / "none.json"))
    damaged = json.loads(load_profile().to_json())
    damaged["sqs"]["send_s"]["value"] = -1
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(damaged))
    with pytest.raises(InputError, match="is damaged"):
        load_profile(str(path))
