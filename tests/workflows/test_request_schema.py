"""The input of a run: its schema, the examples for the console, and what Plan makes of both."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

from lamella.errors import InputError
from lamella.events import RunRequest, parse_request
from lamella.inputs import SUFFIXES
from lamella.plan import StrategyName
from workflows import request_schema
from workflows.request_schema import SCHEMA
from workflows.state_machine import render

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "events").glob("*.json"))
NEEDED = {"model": "s3://bucket/models/m/", "input": "s3://bucket/inputs/x.npy"}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(document)
    return document


def test_the_file_is_what_the_model_says() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == request_schema.render()


@pytest.mark.parametrize(
    ("main", "module", "name"),
    [(request_schema.main, request_schema, "SCHEMA"), (render.main, render, "RENDERED")],
)
def test_the_check_tells_a_difference(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    main: Callable[[list[str]], int],
    module: Any,
    name: str,
) -> None:
    copy = tmp_path / "copy.json"
    text = getattr(module, name).read_text()
    monkeypatch.setattr(module, name, copy)

    assert main(["--check"]) == 1
    copy.write_text(text.replace(":", ": ", 1))
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert copy.read_text() == text


def test_every_field_is_described(schema: dict[str, Any]) -> None:
    assert list(schema["properties"]) == list(RunRequest.model_fields)
    for field in schema["properties"].values():
        assert field["description"].endswith(".")
    for suffix in SUFFIXES:
        assert suffix in schema["properties"]["input"]["description"]


def test_there_are_examples_of_the_least_and_the_most(schema: dict[str, Any]) -> None:
    given = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in EXAMPLES}

    assert set(given) == {"minimal", *get_args(StrategyName)}
    assert set(given["minimal"]) == set(schema["required"]) == set(NEEDED)
    assert set(given["rows"]) == set(schema["properties"]) - {"id_column"}
    assert "id_column" in given["samples"]
    for strategy in get_args(StrategyName):
        assert given[strategy]["strategy"] == strategy


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_satisfies_the_schema_and_plan(schema: dict[str, Any], path: Path) -> None:
    example = json.loads(path.read_text(encoding="utf-8"))

    Draft202012Validator(schema).validate(example)
    assert parse_request(example).model_dump(include=set(example)) == example


@pytest.mark.parametrize(
    "wrong",
    [
        {"strategy": "row"},
        {"channel": "sns2"},
        {"stratgy": "rows"},
        {"workers": "8"},
        {"workers": 0},
        {"workers": 1.5},
        {"workers": True},
        {"micro_batches": 0},
        {"micro_batches": "2"},
        {"samples": 0},
        {"memory_mb": 64},
        {"activations": "yes"},
        {"activations": 1},
        {"model": "models/m"},
        {"model": None},
        {"input": "s3://bucket/"},
    ],
    ids=str,
)
def test_the_schema_and_plan_refuse_the_same(schema: dict[str, Any], wrong: dict[str, Any]) -> None:
    (name,) = wrong

    assert not Draft202012Validator(schema).is_valid(NEEDED | wrong)
    with pytest.raises(InputError, match=name):
        parse_request(NEEDED | wrong)


@pytest.mark.parametrize("missing", NEEDED)
def test_the_schema_and_plan_miss_the_same(schema: dict[str, Any], missing: str) -> None:
    rest = {name: value for name, value in NEEDED.items() if name != missing}

    assert not Draft202012Validator(schema).is_valid(rest)
    with pytest.raises(InputError, match=f"has no '{missing}'"):
        parse_request(rest)
