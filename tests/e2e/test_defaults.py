"""The files as they are, no parameter given, in an account new to Lambda: build, deploy, run, delete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.libraries import architectures
from tests.e2e.project import ARCHITECTURE, DEFAULT_RUNTIME, Project, run_and_compare
from tests.e2e.remains import lambda_processes, named, remains, wait_for_no_processes
from tests.e2e.tools import Tools
from tests.integration import batches
from workflows import built_sizes
from workflows.embedded_cloud import EmbeddedCloud

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PARAMETERS = {} if ARCHITECTURE == "x86_64" else {"Architecture": ARCHITECTURE}
"""None, but where this machine could not load the default's wheels."""


@pytest.fixture(scope="module")
def project(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Built by `sam build` alone."""
    copied = Project.copy(tools, tmp_path_factory.mktemp("defaults"), "lamella", PARAMETERS)
    assert "is a valid SAM Template" in copied.sam("validate", "--lint")
    said = copied.build(UV="")  # as where uv is not installed: the layer's makefile gets it for itself
    assert "Build Succeeded" in said
    assert f"layer for {DEFAULT_RUNTIME}" in said, "the layer's size is there to see"
    return copied


@pytest.fixture(scope="module")
def deployed(account: EmbeddedCloud, project: Project, model: Path) -> Iterator[dict[str, str]]:
    """Outputs of the stack, deployed by `sam deploy` alone, its question answered."""
    before = remains(account)
    said = project.deploy(answers="y\n")
    assert "Deploy this changeset?" in said
    outputs = project.outputs()
    project.tools.aws("s3", "cp", "--recursive", model, f"s3://{outputs['BucketName']}/models/mine/")
    yield outputs
    project.delete()
    assert remains(account) == before
    assert wait_for_no_processes(account) == set()


def test_the_build_is_for_the_default_python_and_has_room(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    built = project.folder / ".aws-sam" / "build"
    assert architectures(built, DEFAULT_RUNTIME) == {ARCHITECTURE}
    assert built_sizes.main([str(built)]) == 0
    said = capsys.readouterr().out
    functions = built_sizes.built_functions(built)
    assert {each.logical_id for each in functions} > {"PlanFunction", "WorkerLargeFunction", "FinishFunction"}
    for function in functions:
        assert function.logical_id in said
        assert set(function.layers) == {"DependenciesLayer"}
        assert function.total_bytes < built_sizes.LIMIT_BYTES - built_sizes.ROOM_BYTES


def test_the_minimal_input_runs(deployed: dict[str, str], project: Project, tmp_path: Path) -> None:
    run_and_compare(project.tools, deployed, tmp_path)


def test_every_bit_is_right(deployed: dict[str, str], project: Project, tmp_path: Path) -> None:
    run_and_compare(project.tools, deployed, tmp_path, seed=1, activations=True)


def test_functions_run_under_the_python_that_runtime_names(
    account: EmbeddedCloud, deployed: dict[str, str], project: Project
) -> None:
    """And what they import is the layer's and their own, not this checkout's."""
    told = project.report("WorkerSmall", ("lamella", "numpy", "boto3"))
    assert told["version"] == [3, int(DEFAULT_RUNTIME.removeprefix("python3."))]
    own = told["environment"]["LAMBDA_TASK_ROOT"]
    assert told["modules"]["lamella"].startswith(own)
    assert (
        told["modules"]["numpy"].split("/python/")[0] == told["modules"]["boto3"].split("/python/")[0] != own
    )
    unzipped = batches.CHECKOUT / "build" / "embedded_cloud"
    for entry in told["path"]:
        inside = Path(entry).is_relative_to(batches.CHECKOUT) or Path(entry).is_relative_to(project.folder)
        assert not inside or Path(entry).is_relative_to(unzipped), entry
    assert lambda_processes(account)


def test_list(deployed: dict[str, str], project: Project) -> None:
    resources = json.loads(project.sam("list", "resources", "--output", "json"))
    told = project.tools.asked("cloudformation", "describe-stack-resources", "--stack-name", project.stack)
    physical = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in told["StackResources"]}
    assert {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources} == physical
    assert physical["Bucket"] == deployed["BucketName"]
    endpoints = json.loads(project.sam("list", "endpoints", "--output", "json"))
    assert {each["LogicalResourceId"] for each in endpoints} == {
        each["LogicalResourceId"]
        for each in told["StackResources"]
        if each["ResourceType"] == "AWS::Lambda::Function"
    }


def test_list_can_not_read_the_loops_of_a_template(deployed: dict[str, str], project: Project) -> None:
    """Once this fails, SAM CLI has learned it: workflows/listed-by-sam.yaml can go."""
    said = project.sam("list", "resources", "--template-file", "template.yaml", fails=True)
    assert "All 'Resources' must be Objects" in said


def test_guided(
    account: EmbeddedCloud, deployed: dict[str, str], project: Project, model: Path, tmp_path: Path
) -> None:
    """A first deployment as SAM CLI guides it; its answers are those of later ones."""
    other = project.built_copy(tmp_path, "guided")
    answers = {"Stack Name": "guided", "Parameter SlotGroups": "0", "RetentionDays": "7", "Deploy this": "y"}
    said = project.tools.sam_in_terminal("deploy", "--guided", folder=other.folder, answers=answers)
    assert "Successfully created/updated stack - guided" in said
    assert 'stack_name = "guided"' in (other.folder / "samconfig.toml").read_text()
    (group,) = project.tools.asked(
        "logs", "describe-log-groups", "--log-group-name-prefix", "/aws/lambda/guided-Plan"
    )["logGroups"]
    assert group["retentionInDays"] == 7

    assert "No changes to deploy" in other.sam("deploy")
    outputs = other.outputs()
    assert outputs["GroupsOfSlots"] == "0"
    other.delete()
    assert named(remains(account), "guided") == {}
