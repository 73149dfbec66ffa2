"""The authored machine and the file that is deployed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from lamella.launch import MAX_INLINE_WORKERS, MAX_WORKERS
from workflows.state_machine import RENDERED, render
from workflows.state_machine.validate import filled, findings

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / "build" / "node" / "node_modules" / ".bin" / "asl-validator"


@pytest.fixture(scope="module")
def text() -> str:
    return RENDERED.read_text(encoding="utf-8")


@pytest.fixture
def definition(text: str) -> dict[str, Any]:
    machine: dict[str, Any] = json.loads(text)
    return machine


def states_of(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states_of(state["ItemProcessor"])


def test_the_file_is_what_is_authored(text: str) -> None:
    assert render.render() == text


def test_every_task_has_a_timeout_and_is_retried_and_caught(definition: dict[str, Any]) -> None:
    tasks = {name: state for name, state in states_of(definition) if state["Type"] == "Task"}

    of_workers = {f"{kind}{name}" for kind in ("", "Distributed") for name in ("Worker", "RecordError")}
    assert set(tasks) == {"Plan", "Recover", *of_workers, "Collect", "Finish", "FinishFailed"}
    for task in tasks.values():
        assert task["TimeoutSeconds"] > 0
        assert [catch["ErrorEquals"] for catch in task["Catch"]] == [["States.ALL"]]
        for retry in task["Retry"]:
            assert retry["JitterStrategy"] == "FULL"
            assert retry["MaxDelaySeconds"] > retry["IntervalSeconds"]


def test_a_function_ends_by_its_own_timeout_before_its_task_does(definition: dict[str, Any]) -> None:
    longest_function_s = 900

    for _, state in states_of(definition):
        if state.get("Resource", "").endswith("lambda:invoke"):
            assert state["TimeoutSeconds"] > longest_function_s


def test_the_machine_has_no_timeout_which_would_pass_its_catches_by(definition: dict[str, Any]) -> None:
    assert "TimeoutSeconds" not in definition


def test_both_maps_are_caught_and_not_retried_and_as_wide_as_plan_knows(definition: dict[str, Any]) -> None:
    maps = {name: state for name, state in states_of(definition) if state["Type"] == "Map"}

    assert set(maps) == {"Workers", "DistributedWorkers"}
    for workers in maps.values():
        assert "Retry" not in workers
        # Beside Plan's answer: Recover has to know the attempt.
        assert (workers["Catch"][0]["Next"], workers["Catch"][0]["ResultPath"]) == ("Recover", "$.error")
        assert workers["Next"] == "Collect"
    inline, distributed = maps["Workers"], maps["DistributedWorkers"]
    assert inline["ItemProcessor"]["ProcessorConfig"] == {"Mode": "INLINE"}
    assert inline["MaxConcurrency"] == MAX_INLINE_WORKERS == 40
    children = {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert distributed["ItemProcessor"]["ProcessorConfig"] == children
    assert distributed["MaxConcurrency"] == MAX_WORKERS == 1000
    assert distributed["ToleratedFailureCount"] == 0


def test_workers_of_both_maps_do_the_same(definition: dict[str, Any]) -> None:
    def body(name: str) -> str:
        processor = definition["States"][name]["ItemProcessor"]
        return json.dumps({key: processor[key] for key in ("StartAt", "States")})

    assert body("DistributedWorkers").replace("Distributed", "") == body("Workers")


def test_names_of_states_are_unique_in_the_whole_machine(definition: dict[str, Any]) -> None:
    names = [name for name, _ in states_of(definition)]

    assert len(names) == len(set(names))


def test_nothing_passes_between_states_but_what_plan_answers(definition: dict[str, Any]) -> None:
    """A Map's results may have 256 KiB together: each iteration's is empty."""
    states = dict(states_of(definition))

    for name in ("Workers", "DistributedWorkers", "Collect", "Worker", "DistributedWorker"):
        assert states[name]["ResultPath"] is None
    for name in ("Worker", "DistributedWorker"):
        assert states[name]["OutputPath"] is None


def test_the_template_substitutes_what_the_machine_names(text: str) -> None:
    template = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    given = template["Resources"]["StateMachine"]["Properties"]["DefinitionSubstitutions"]

    assert set(given) == set(re.findall(r"\$\{(\w+)\}", text))


def break_next(machine: dict[str, Any]) -> None:
    machine["States"]["Plan"]["Next"] = "Nowhere"


def break_path(machine: dict[str, Any]) -> None:
    machine["States"]["Plan"]["OutputPath"] = "Payload"


def break_reachability(machine: dict[str, Any]) -> None:
    machine["States"]["Island"] = {"Type": "Succeed"}


def break_field(machine: dict[str, Any]) -> None:
    machine["States"]["Plan"]["TimeoutSecond"] = machine["States"]["Plan"].pop("TimeoutSeconds")


def break_map(machine: dict[str, Any]) -> None:
    del machine["States"]["Workers"]["ItemProcessor"]


needs_validator = pytest.mark.skipif(
    not (INSTALLED.exists() and shutil.which("node")), reason="asl-validator isn't installed: run `make lint`"
)


@needs_validator
def test_the_validator_accepts_the_machine(text: str) -> None:
    assert findings(INSTALLED, text) == ""


@needs_validator
@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (break_next, "target: Nowhere"),
        (break_path, "/States/Plan/OutputPath is invalid"),
        (break_reachability, "State Island is not reachable"),
        (break_field, "/States/Plan is invalid"),
        (break_map, 'State "Workers" MUST contain exactly one of "ItemProcessor"'),
    ],
)
def test_the_validator_rejects_a_broken_machine(
    definition: dict[str, Any], broken: Callable[[dict[str, Any]], None], says: str
) -> None:
    broken(definition)
    assert says in findings(INSTALLED, json.dumps(definition))


def test_no_substitution_is_left_for_the_validator(text: str) -> None:
    assert "${" not in filled(text)
