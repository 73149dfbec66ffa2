"""Amounts of usage."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.errors import MessageError
from lamella.usage import (
    Count,
    Usage,
    billed_requests,
    lambda_usage,
    merge,
    step_functions_usage,
)

MACHINE = Path(__file__).resolve().parents[2] / "workflows" / "inference.asl.json"

counts = st.builds(Count, st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**50))
usages = st.builds(Usage, st.dictionaries(st.sampled_from(["s3.get_object", "sqs.receive_message"]), counts))


@settings(deadline=None)
@given(st.lists(usages), st.randoms())
def test_merging_is_a_sum_in_any_order(parts: list[Usage], random: Any) -> None:
    expected = {
        name: Count(
            sum(part.count(name).calls for part in parts),
            sum(part.count(name).billed for part in parts),
            sum(part.count(name).bytes for part in parts),
        )
        for name in {name for part in parts for name in part.counts}
    }
    random.shuffle(parts)
    assert merge(parts) == Usage(expected)


@settings(deadline=None)
@given(usages, st.floats(0, 1e6))
def test_json_keeps_everything(usage: Usage, gb_seconds: float) -> None:
    usage += Usage({"lambda.invoke": Count(1, gb_seconds, 0)})
    assert Usage.from_json(json.loads(json.dumps(usage.to_json()))) == usage


@pytest.mark.parametrize(
    "count",
    [
        None,
        {"calls": 1},
        {"calls": 1, "billed": 1, "bytes": -1},
        {"calls": 1, "billed": "1", "bytes": 1},
        {"calls": 1, "billed": math.nan, "bytes": 1},
        {"calls": 1, "billed": math.inf, "bytes": 1},
        {"calls": 1.5, "billed": 1, "bytes": 1},
        {"calls": 1, "billed": 1, "bytes": 0.5},
        {"calls": True, "billed": 1, "bytes": 1},
        {"calls": 1, "billed": 1, "bytes": 1, "seconds": 1},
    ],
)
def test_what_is_no_usage(count: Any) -> None:
    with pytest.raises(MessageError, match="usage of s3"):
        Usage.from_json({"s3.get_object": count})


def test_whole_numbers_stay_whole() -> None:
    count = Usage.from_json({"s3.get_object": {"calls": 3.0, "billed": 3.0, "bytes": 7.0}}).count(
        "s3.get_object"
    )
    assert repr(count) == "Count(calls=3, billed=3, bytes=7)"


def test_a_request_is_billed_for_each_64_kib_begun() -> None:
    sizes = [0, 1, 65_536, 65_537, 131_072, 131_073, 262_144]
    assert [billed_requests(size) for size in sizes] == [1, 1, 1, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("duration_s", "init_s", "memory_mb", "gb_seconds"),
    [
        (1.0, 0.0, 1024, 1.0),
        (0.1, 0.2, 2048, 0.6),
        (0.0001, 0.0, 1024, 0.001),
        (0.0501, 0.0, 1024, 0.051),
        (2.0, 0.25, 1769, 2.25 * 1769 / 1024),
    ],
)
def test_an_invocation(duration_s: float, init_s: float, memory_mb: int, gb_seconds: float) -> None:
    count = lambda_usage(duration_s, memory_mb, init_s).count("lambda.invoke")
    assert count.calls == 1
    assert count.billed == pytest.approx(gb_seconds, rel=1e-12)


@pytest.mark.skipif(not MACHINE.exists(), reason="the state machine is not rendered")
@pytest.mark.parametrize("looks", [0, 2])
@pytest.mark.parametrize("workers", [1, 8, 40, 41, 1000])
def test_transitions_are_the_states_that_a_good_run_enters(workers: int, looks: int) -> None:
    assert step_functions_usage(workers, looks=looks).count(
        "stepfunctions.transition"
    ).billed == states_entered(json.loads(MACHINE.read_text()), workers, looks)


@pytest.mark.skipif(not MACHINE.exists(), reason="the state machine is not rendered")
@pytest.mark.parametrize("workers", [8, 41])
def test_another_attempt_enters_what_leads_to_it_and_its_workers(workers: int) -> None:
    states = json.loads(MACHINE.read_text())["States"]
    name = "DistributedWorkers" if workers > 40 else "Workers"
    once = states_entered(
        {"StartAt": name, "States": {name: states[name] | {"Next": "", "End": True}}}, workers
    )
    failing = {"RecordError", "WorkerFailed"} | {"Recover", "Again", "Launch"}
    assert failing <= set(states) | set(states["Workers"]["ItemProcessor"]["States"])
    one, two = (step_functions_usage(workers, attempts) for attempts in (1, 2))
    name = "stepfunctions.transition"
    assert two.count(name).billed - one.count(name).billed == len(failing) + once


def states_entered(machine: dict[str, Any], workers: int, looks: int = 0) -> int:
    entered, name = 0, machine["StartAt"]
    while True:
        state = machine["States"][name]
        entered += 1
        if state["Type"] == "Choice":
            told = {"$.wait_s": looks > 0, "$.items": workers > 40}
            name = next((c["Next"] for c in state["Choices"] if told[c["Variable"]]), state["Default"])
            looks -= 1
            continue
        if state["Type"] == "Map":
            # Each execution that a Distributed Map starts counts one besides its states.
            started = state["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED"
            entered += workers * (states_entered(state["ItemProcessor"], workers) + started)
        if state.get("End") or "Next" not in state:
            return entered
        name = state["Next"]
