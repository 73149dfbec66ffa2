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

    assert set(tasks) == {"Plan", "Worker", "RecordError", "Collect", "Finish", "FinishFailed"}
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


def test_the_map_is_caught_and_not_retried(definition: dict[str, Any]) -> None:
    (workers,) = [state for _, state in states_of(definition) if state["Type"] == "Map"]

    assert "Retry" not in workers
    assert workers["Catch"][0]["Next"] == "FinishFailed"
    assert workers["ItemProcessor"]["ProcessorConfig"] == {"Mode": "INLINE"}
    assert workers["MaxConcurrency"] == 40


def test_nothing_passes_between_states_but_what_plan_answers(definition: dict[str, Any]) -> None:
    for name in ("Workers", "Collect"):
        assert definition["States"][name]["ResultPath"] is None


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
