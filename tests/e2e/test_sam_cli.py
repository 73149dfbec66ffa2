"""The official SAM and AWS command lines, as they are: build, deploy, run, update, run again, delete."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from model_prep.writer import write_model
from tests import official_tools
from tests.cloud.helpers import SAMPLE
from tests.integration import batches
from workflows.embedded_cloud import EmbeddedCloud
from workflows.embedded_cloud.interpreters import running_version

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROJECT = batches.CHECKOUT / "build" / "e2e"
DEPLOYED = ("template.yaml", "samconfig.toml", "lambdas", "workflows/inference.asl.json")
RUNTIME = f"python{running_version()}"
ARCHITECTURE = "arm64" if platform.machine().lower() in ("aarch64", "arm64") else "x86_64"
BUILT_FOR = f"Runtime={RUNTIME} Architecture={ARCHITECTURE}"
STACK = "end-to-end"
SOURCE = "radixnet:256x24"
BROKEN = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Good: {Type: AWS::SQS::Queue, Properties: {QueueName: rolled-back}}
  Bad: {Type: AWS::SQS::Queue, DependsOn: Good, Properties: {QueueName: not a name}}
"""
SAMPLE_CONFIG = """
version = 0.1
[default.global.parameters]
stack_name = "other"
language_extensions = true
[default.deploy.parameters]
resolve_s3 = true
capabilities = "CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"
"""


@dataclass(frozen=True)
class Tools:
    """The two command lines, set to use one embedded cloud."""

    cloud: EmbeddedCloud
    sam_bin: Path
    aws_bin: Path
    resident: frozenset[int]

    def lambda_processes(self) -> set[int]:
        """Processes of functions: what runs under the cloud and did not when it was started."""
        children = psutil.Process(self.cloud.pid).children(recursive=True)
        return {child.pid for child in children} - self.resident

    def environment(self) -> dict[str, str]:
        """Nothing but what a user would set: the cloud's address, and what the layer is built for."""
        path = os.pathsep.join([str(official_tools.BIN), os.environ.get("PATH", os.defpath)])
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        return {
            **inherited,
            **self.cloud.environment(),
            "AWS_PAGER": "",
            "ARCHITECTURE": ARCHITECTURE,
            "PATH": path,
            "RUNTIME": RUNTIME,
            "SAM_CLI_POLL_DELAY": "0.5",
            "SAM_CLI_TELEMETRY": "0",
        }

    def sam(self, *arguments: str, folder: Path = PROJECT, fails: bool = False) -> str:
        """Run SAM CLI; return what it says."""
        return self._call([self.sam_bin / "sam", *arguments], folder, fails)

    def aws(self, *arguments: str | Path) -> str:
        """Run AWS CLI; return what it prints."""
        return self._call([self.aws_bin / "aws", *arguments], PROJECT, fails=False)

    def _call(self, command: list[str | Path], folder: Path, fails: bool) -> str:
        done = subprocess.run(
            command,
            cwd=folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (done.returncode != 0) == fails, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr if command[0] == self.sam_bin / "sam" else done.stdout


@pytest.fixture(scope="module")
def tools() -> Iterator[Tools]:
    """A fresh embedded cloud, and the tools for it."""
    sam_bin, aws_bin = (
        official_tools.install(tool) for tool in (official_tools.SAM_CLI, official_tools.AWS_CLI)
    )
    with EmbeddedCloud.start(cache_dir=batches.CHECKOUT / "build" / "embedded_cloud") as cloud:
        own = psutil.Process(cloud.pid).children(recursive=True)
        yield Tools(cloud, sam_bin, aws_bin, frozenset(child.pid for child in own))


@pytest.fixture(scope="module")
def deployed(tools: Tools) -> dict[str, str]:
    """Outputs of the stack, built and deployed by SAM CLI as samconfig.toml has it."""
    copy_project()
    tools.sam("validate", "--lint")
    assert "Build Succeeded" in tools.sam("build", "--parameter-overrides", BUILT_FOR)
    deploy(tools, "Slots=0,1")
    return outputs(tools)


def copy_project() -> None:
    """Copy what is deployed to a folder of its own: a build for this Python must not replace the user's."""
    for name in DEPLOYED:
        source, target = batches.CHECKOUT / name, PROJECT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)


def deploy(tools: Tools, parameters: str) -> str:
    given = ("--parameter-overrides", f"{BUILT_FOR} {parameters}")
    return tools.sam("deploy", "--stack-name", STACK, "--no-confirm-changeset", *given)


def outputs(tools: Tools) -> dict[str, str]:
    """What `sam list stack-outputs` tells of the stack."""
    listed = json.loads(tools.sam("list", "stack-outputs", "--stack-name", STACK, "--output", "json"))
    return {each["OutputKey"]: each["OutputValue"] for each in listed}


def run_and_compare(tools: Tools, bucket: str, machine: str, workers: int, folder: Path) -> None:
    """Start an execution by hand, and hold all of its predictions to plain scipy's."""
    matrix = batches.blobs(400, 16, seed=workers)
    batch = batches.write_npz(folder / f"{workers}.npz", matrix)
    tools.aws("s3", "cp", batch, f"s3://{bucket}/inputs/{batch.name}")
    request = {
        "model": f"s3://{bucket}/models/mine/",
        "input": f"s3://{bucket}/inputs/{batch.name}",
        "workers": workers,
        "activations": True,
    }
    started = tools.aws(
        "stepfunctions", "start-execution", "--state-machine-arn", machine, "--input", json.dumps(request)
    )
    execution = json.loads(started)["executionArn"]
    summary = json.loads(finished(tools, execution)["output"])
    rows = list(csv.DictReader(io.StringIO(tools.aws("s3", "cp", summary["predictions"], "-"))))
    plain = plain_scipy(open_source(SOURCE), matrix)
    assert [int(row["argmax"]) for row in rows] == plain.argmax(axis=1).tolist()
    assert [int(row["nonzero"]) for row in rows] == np.count_nonzero(plain, axis=1).tolist()
    tools.aws("s3", "cp", summary["activations"], folder / "activations.safetensors")
    found = load_file(folder / "activations.safetensors")["activations"]
    assert found.tobytes() == np.ascontiguousarray(plain, dtype=np.float32).tobytes()


def finished(tools: Tools, execution: str) -> dict[str, Any]:
    until = time.monotonic() + 90
    while True:
        answer = tools.aws("stepfunctions", "describe-execution", "--execution-arn", execution)
        description: dict[str, Any] = json.loads(answer)
        if description["status"] != "RUNNING" or time.monotonic() > until:
            break
    assert description["status"] == "SUCCEEDED", description
    return description


def left(cloud: EmbeddedCloud) -> dict[str, list[str]]:
    """Names of everything that the cloud holds, but what SAM CLI keeps for itself."""
    events, logs, iam, sns = (cloud.client(name) for name in ("events", "logs", "iam", "sns"))
    functions = cloud.client("lambda")
    found = {
        "buckets": [each["Name"] for each in cloud.client("s3").list_buckets()["Buckets"]],
        "functions": [each["FunctionName"] for each in functions.list_functions()["Functions"]],
        "layers": [each["LayerName"] for each in functions.list_layers()["Layers"]],
        "log groups": [each["logGroupName"] for each in logs.describe_log_groups()["logGroups"]],
        "machines": [
            each["name"] for each in cloud.client("stepfunctions").list_state_machines()["stateMachines"]
        ],
        "queues": cloud.client("sqs").list_queues().get("QueueUrls", []),
        "roles": [each["RoleName"] for each in iam.list_roles()["Roles"]],
        "rules": [each["Name"] for each in events.list_rules()["Rules"]],
        "stacks": [each["StackName"] for each in cloud.client("cloudformation").describe_stacks()["Stacks"]],
        "subscriptions": [each["SubscriptionArn"] for each in sns.list_subscriptions()["Subscriptions"]],
        "topics": [each["TopicArn"] for each in sns.list_topics()["Topics"]],
    }
    ours = {
        kind: [name for name in names if "aws-sam-cli-managed" not in name] for kind, names in found.items()
    }
    return {kind: names for kind, names in ours.items() if names}


def test_build_deploy_run_update_delete(tools: Tools, deployed: dict[str, str], tmp_path: Path) -> None:
    bucket, machine = deployed["BucketName"], deployed["StateMachineArn"]
    write_model(open_source(SOURCE), tmp_path / "model")
    tools.aws("s3", "cp", "--recursive", tmp_path / "model", f"s3://{bucket}/models/mine/")
    run_and_compare(tools, bucket, machine, 2, tmp_path)

    assert "No changes to deploy" in deploy(tools, "Slots=0,1")
    deploy(tools, "Slots=0,1,2,3 WorkerTimeout=300")
    assert outputs(tools) == {**deployed, "SlotNumbers": "0,1,2,3"}
    worker = json.loads(
        tools.aws("lambda", "get-function-configuration", "--function-name", f"{STACK}-WorkerLarge")
    )
    assert worker["Timeout"] == 300
    assert worker["Environment"]["Variables"]["LAMELLA_WORKER_TIMEOUT_S"] == "300"
    run_and_compare(tools, bucket, machine, 4, tmp_path)
    assert tools.lambda_processes()

    tools.sam("delete", "--no-prompts", "--stack-name", STACK, "--region", "us-east-1")
    assert left(tools.cloud) == {"buckets": [bucket]}, "only the user's data is kept"
    until = time.monotonic() + 10
    while tools.lambda_processes() and time.monotonic() < until:
        time.sleep(0.1)
    assert not tools.lambda_processes()


def test_a_template_of_another_shape(tools: Tools, tmp_path: Path) -> None:
    """Policies by name, an alarm, an event of a machine, a layer by makefile: nothing of ours."""
    shutil.copytree(SAMPLE, tmp_path / "sample")
    folder = tmp_path / "sample"
    (folder / "samconfig.toml").write_text(SAMPLE_CONFIG)
    parameters = ["--parameter-overrides", f"Runtime={RUNTIME} Prefix=other"]
    tools.sam("build", *parameters, folder=folder)
    said = tools.sam("deploy", *parameters, folder=folder)
    assert "QueueUrlgreen" in said
    listed = json.loads(
        tools.sam("list", "stack-outputs", "--stack-name", "other", "--output", "json", folder=folder)
    )
    (function,) = [each["OutputValue"] for each in listed if each["OutputKey"] == "WorkerName"]
    tools.aws("lambda", "invoke", "--function-name", function, tmp_path / "answer.json")
    assert json.loads((tmp_path / "answer.json").read_text())["pid"] in tools.lambda_processes()
    tools.sam("delete", "--no-prompts", "--stack-name", "other", "--region", "us-east-1", folder=folder)
    assert not [each for names in left(tools.cloud).values() for each in names if "other" in each]


def test_a_failed_creation_is_rolled_back_with_its_reason(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text(BROKEN)
    arguments = ["--stack-name", "broken", "--resolve-s3", "--no-confirm-changeset"]
    said = re.sub(r"\s+", "", tools.sam("deploy", *arguments, folder=tmp_path, fails=True))
    assert "ROLLBACK_COMPLETE" in said
    assert "alphanumeric" in said
    assert not tools.cloud.client("sqs").list_queues(QueueNamePrefix="rolled-back").get("QueueUrls")
    tools.sam("delete", "--no-prompts", "--stack-name", "broken", "--region", "us-east-1", folder=tmp_path)
    assert "stacks" not in left(tools.cloud) or "broken" not in left(tools.cloud)["stacks"]
