"""Fn::ForEach, Fn::Length and functions inside references."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.embedded_cloud import EmbeddedCloudError
from workflows.embedded_cloud.language_extensions import expand

NAMES = st.lists(
    st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,5}", fullmatch=True), unique=True, min_size=1, max_size=6
)


@given(NAMES, st.booleans())
def test_loop_makes_one_of_each(names: list[str], by_parameter: bool) -> None:
    collection: Any = {"Ref": "Names"} if by_parameter else names
    body = {
        "Queue${N}": {
            "Type": "T",
            "Properties": {"Name": {"Fn::Sub": "p-${N}-${AWS::Region}"}, "R": {"Ref": "N"}},
        }
    }
    template = {"Resources": {"Fn::ForEach::Loop": ["N", collection, body], "Other": {"Type": "O"}}}
    resources = expand(template, {"Names": ",".join(names)})["Resources"]
    assert set(resources) == {f"Queue{name}" for name in names} | {"Other"}
    for name in names:
        properties = resources[f"Queue{name}"]["Properties"]
        assert properties == {"Name": {"Fn::Sub": f"p-{name}-${{AWS::Region}}"}, "R": name}


@given(NAMES, NAMES)
def test_nested_loops_make_the_product(outer: list[str], inner: list[str]) -> None:
    body = {"Fn::ForEach::Inner": ["B", inner, {"X${A}0${B}": {"V": "${A}/${B}"}}]}
    result = expand({"Outputs": {"Fn::ForEach::Outer": ["A", outer, body]}}, {})["Outputs"]
    assert result == {f"X{a}0{b}": {"V": f"{a}/{b}"} for a in outer for b in inner}


def test_loop_in_properties() -> None:
    loop = {"Properties": {"Fn::ForEach::P": ["N", ["Alpha", "Beta"], {"Set${N}": "${N}"}], "Fixed": 1}}
    assert expand(loop, {}) == {"Properties": {"SetAlpha": "Alpha", "SetBeta": "Beta", "Fixed": 1}}


def test_names_without_punctuation() -> None:
    loop = {"Fn::ForEach::P": ["Ip", ["10.0.0.1", "10.0.0.2"], {"R&{Ip}": "${Ip}"}]}
    assert expand(loop, {}) == {"R10001": "10.0.0.1", "R10002": "10.0.0.2"}


def test_functions_inside_references() -> None:
    node = {
        "A": {"Ref": {"Fn::Sub": "Queue${P}"}},
        "B": {"Fn::GetAtt": [{"Fn::Join": ["", ["Queue", {"Ref": "P"}]]}, "Arn"]},
        "C": {"Fn::Length": {"Ref": "List"}},
    }
    expected = {"A": {"Ref": "Queue7"}, "B": {"Fn::GetAtt": ["Queue7", "Arn"]}, "C": 3}
    assert expand(node, {"P": "7", "List": "a,b,c"}) == expected


@pytest.mark.parametrize(
    ("loop", "reason"),
    [
        (["N", ["a"]], "must be"),
        (["N", {"Ref": "Nope"}, {"X${N}": 1}], "'Nope' is not a parameter"),
        (["N", {"Fn::GetAtt": ["A", "B"]}, {"X${N}": 1}], "list"),
        (["N", ["a", "b"], {"X": 1}], "does not contain"),
        (["N", ["a", "a"], {"X${N}": 1}], "listed twice"),
    ],
)
def test_malformed_loops(loop: list[Any], reason: str) -> None:
    with pytest.raises(EmbeddedCloudError, match=reason):
        expand({"Fn::ForEach::L": loop}, {})


@pytest.mark.parametrize(
    ("key", "variable", "message"),
    [
        ("Names", "N", "loop name 'Names' conflicts with parameter name"),
        ("L", "Names", "identifier 'Names' conflicts with parameter name"),
    ],
)
def test_a_loop_and_its_variable_have_no_parameter_s_name(key: str, variable: str, message: str) -> None:
    loop = [variable, {"Ref": "Names"}, {f"X${{{variable}}}": 1}]
    with pytest.raises(EmbeddedCloudError, match=message):
        expand({"Resources": {f"Fn::ForEach::{key}": loop}}, {"Names": "a,b"})
