"""A stack for this machine's Python: updated, run again, updated in vain, deleted."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.helpers import wait_until
from tests.e2e.project import (
    LOCAL_RUNTIME,
    Project,
    compare,
    model_address,
    run_and_compare,
    upload,
)
from tests.e2e.remains import named, remains, wait_for_no_processes
from workflows.embedded_cloud import EmbeddedCloud

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MARK = "Changed"
DAILY = "inputs/daily/"
DAY_S = 86_400.0
BROKEN = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Good: {Type: AWS::SQS::Queue, Properties: {QueueName: rolled-back}}
  Bad: {Type: AWS::SQS::Queue, DependsOn: Good, Properties: {QueueName: not a name}}
"""


@pytest.fixture(scope="module")
def project(built_here: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A folder whose files the tests change."""
    return built_here.built_copy(tmp_path_factory.mktemp("updates"), "end-to-end")


@pytest.fixture(scope="module")
def deployed(account: EmbeddedCloud, project: Project, model: Path) -> Iterator[dict[str, str]]:
    """Outputs of the stack as it was first deployed."""
    # Of other templates, as on AWS: a layer that SAM retains, a log group that Lambda made.
    before = remains(account)
    project.deploy(SlotGroups="0")
    outputs = project.outputs()
    project.tools.aws("s3", "cp", "--recursive", model, f"s3://{outputs['BucketName']}/models/mine/")
    yield outputs
    project.delete()
    assert remains(account) == before
    assert wait_for_no_processes(account) == set()


def add_a_state(definition: Path) -> None:
    """Put a state in front of the first."""
    machine = json.loads(definition.read_text())
    machine["States"][MARK] = {"Type": "Pass", "Next": machine["StartAt"]}
    machine["StartAt"] = MARK
    definition.write_text(json.dumps(machine))


def test_update(deployed: dict[str, str], project: Project, tmp_path: Path) -> None:
    """A changed definition, a changed parameter and added slots, and the runs before and after."""
    tools = project.tools
    run_and_compare(
        tools, deployed, tmp_path, seed=2, strategy="rows", channel="sns", workers=2, activations=True
    )
    assert project.report("Collect", ("lamella",))["version"] == [
        int(part) for part in LOCAL_RUNTIME.removeprefix("python").split(".")
    ]
    assert "No changes to deploy" in project.deploy(SlotGroups="0")

    add_a_state(project.folder / "workflows" / "inference.asl.json")
    project.build()
    project.deploy(
        SlotGroups="0,1",
        WorkerTimeout="300",
        AutoModel=model_address(deployed),
        AutoOptions='{"strategy": "serial", "activations": true}',
        ScheduleExpression="rate(1 day)",
        SchedulePrefix=DAILY,
    )
    assert project.outputs() == {**deployed, "GroupsOfSlots": "0,1"}
    machine = ("--state-machine-arn", deployed["StateMachineArn"])
    described = tools.asked("stepfunctions", "describe-state-machine", *machine)
    assert json.loads(described["definition"])["StartAt"] == MARK
    name = ("--function-name", f"{project.stack}-WorkerLarge")
    worker = tools.asked("lambda", "get-function-configuration", *name)
    assert worker["Timeout"] == 300
    assert worker["Environment"]["Variables"]["LAMELLA_WORKER_TIMEOUT_S"] == "300"
    run_and_compare(
        tools, deployed, tmp_path, seed=4, strategy="rows", channel="sns", workers=4, activations=True
    )
    last = tools.asked("stepfunctions", "list-executions", *machine)["executions"][0]["executionArn"]
    history = tools.asked("stepfunctions", "get-execution-history", "--execution-arn", last)
    entered = [each.get("stateEnteredEventDetails", {}).get("name") for each in history["events"]]
    assert MARK in entered


def test_the_schedule_starts_a_run_of_each_new_input_once(
    account: EmbeddedCloud, deployed: dict[str, str], project: Project, tmp_path: Path
) -> None:
    tools = project.tools
    matrix, _ = upload(tools, deployed, tmp_path, DAILY, seed=3)
    before = executions(project, deployed)
    account.advance(DAY_S)
    (started,) = wait_until(lambda: executions(project, deployed) - before, 30)
    summary = tools.finished(started)
    assert summary["activations"]
    compare(tools, summary, matrix, tmp_path)
    account.advance(DAY_S)
    time.sleep(3)  # as long as the first took to start, and more
    assert executions(project, deployed) == before | {started}


def executions(project: Project, outputs: dict[str, str]) -> set[str]:
    """ARNs of all executions."""
    machine = ("--state-machine-arn", outputs["StateMachineArn"])
    listed = project.tools.asked("stepfunctions", "list-executions", *machine)
    return {each["executionArn"] for each in listed["executions"]}


def test_a_failed_update_is_rolled_back_with_its_reason(
    deployed: dict[str, str], project: Project, tmp_path: Path
) -> None:
    """More memory than the account may have, where the runs are to be kept for longer too."""
    before = project.described()
    said = project.deploy(LargeWorkerMemory="10240", RetentionDays="90", fails=True)
    assert "UPDATE_ROLLBACK_COMPLETE" in re.sub(r"\s+", "", said)
    assert "lessthanorequalto3008" in re.sub(r"\s+", "", said)
    after = project.described()
    assert after["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert after["Outputs"] == before["Outputs"]
    assert after["Parameters"] == before["Parameters"]
    group = ("--log-group-name-prefix", f"/aws/lambda/{project.stack}-Plan")
    (found,) = project.tools.asked("logs", "describe-log-groups", *group)["logGroups"]
    assert found["retentionInDays"] == 30
    run_and_compare(project.tools, deployed, tmp_path, seed=5, strategy="rows", channel="sns", workers=2)


def test_a_failed_creation_is_rolled_back_with_its_reason(
    account: EmbeddedCloud, project: Project, tmp_path: Path
) -> None:
    (tmp_path / "template.yaml").write_text(BROKEN)
    arguments = ["--stack-name", "broken", "--resolve-s3", "--no-confirm-changeset"]
    said = re.sub(r"\s+", "", project.tools.sam("deploy", *arguments, folder=tmp_path, fails=True))
    assert "ROLLBACK_COMPLETE" in said
    assert "alphanumeric" in said
    assert named(remains(account), "rolled-back") == {}
    delete = ("delete", "--no-prompts", "--stack-name", "broken", "--region", "us-east-1")
    project.tools.sam(*delete, folder=tmp_path)
    assert named(remains(account), "broken") == {}
