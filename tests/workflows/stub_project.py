"""The real template and state machine on an embedded cloud, with functions that follow a script."""

from __future__ import annotations

import json
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflows.embedded_cloud import EmbeddedCloud, deploy

ROOT = Path(__file__).resolve().parents[2]
STUBS = Path(__file__).with_name("stubs")
RUNTIME = f"python3.{sys.version_info.minor}"
EMPTY_LAYER = (
    "build-DependenciesLayer:\n\tmkdir -p $(ARTIFACTS_DIR)/python && touch $(ARTIFACTS_DIR)/python/empty\n"
)
WAIT_S = 120.0
UNTIL_S = 20.0


@dataclass(frozen=True)
class Call:
    """One invocation of a stub."""

    state: str
    event: dict[str, Any]
    function: str


@dataclass(frozen=True)
class Execution:
    """What became of an execution."""

    run: str
    status: str
    output: Any
    error: str | None
    cause: str | None
    history: list[dict[str, Any]]
    calls: list[Call] = field(default_factory=list)

    def states(self, *, of_iterations: bool = False) -> list[str]:
        """Names of the states entered, in order."""
        inner = {"Worker", "RecordError", "WorkerFailed"}
        entered = [
            event["stateEnteredEventDetails"]["name"]
            for event in self.history
            if "stateEnteredEventDetails" in event
        ]
        return [name for name in entered if of_iterations or name not in inner]

    def called(self, state: str) -> list[Call]:
        """Invocations of one state's function."""
        return [call for call in self.calls if call.state == state]


class Machine:
    """The deployed state machine."""

    def __init__(self, cloud: EmbeddedCloud, outputs: dict[str, str]) -> None:
        self.cloud = cloud
        self.outputs = outputs
        self.bucket = outputs["BucketName"]
        self.s3 = cloud.client("s3")
        self.stepfunctions = cloud.client("stepfunctions")

    def start(self, script: dict[str, Any] | None = None, request: Any = None) -> str:
        """Start an execution whose functions follow a script; its ARN."""
        run = f"run-{uuid.uuid4().hex[:12]}"
        self.s3.put_object(
            Bucket=self.bucket, Key=f"scripts/{run}.json", Body=json.dumps(script or {}).encode()
        )
        arn: str = self.stepfunctions.start_execution(
            stateMachineArn=self.outputs["StateMachineArn"],
            name=run,
            input=json.dumps({"model": "s3://m/", "input": "s3://i"} if request is None else request),
        )["executionArn"]
        return arn

    def wait(self, arn: str) -> Execution:
        """Wait for an execution's end."""
        until_s = time.monotonic() + WAIT_S
        while (found := self.stepfunctions.describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert time.monotonic() < until_s, f"still running after {WAIT_S} s"
            time.sleep(0.05)
        history = self.stepfunctions.get_execution_history(executionArn=arn, maxResults=1000)["events"]
        return Execution(
            found["name"],
            found["status"],
            json.loads(found["output"]) if "output" in found else None,
            found.get("error"),
            found.get("cause"),
            history,
            self.calls(found["name"]),
        )

    def run(self, script: dict[str, Any] | None = None, request: Any = None) -> Execution:
        """Run to the end."""
        return self.wait(self.start(script, request))

    def calls(self, run: str) -> list[Call]:
        """Invocations made for a run, in order."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"calls/{run}/").get("Contents", [])
        keys = sorted((str(item["Key"]) for item in listed), key=lambda key: key.rpartition(" ")[2])
        return [Call(**self.read(key)) for key in keys]

    def read(self, key: str) -> Any:
        """A JSON object in the bucket."""
        return json.loads(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def keys(self, prefix: str) -> list[str]:
        """Names of the objects under a prefix."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return [str(item["Key"]) for item in listed]


def project_of_stubs(directory: Path) -> Path:
    """The project's template and machine with stubs for functions and an empty layer; the template's path."""
    functions = directory / "lambdas" / "functions"
    shutil.copytree(STUBS, functions)
    # CloudFormation waits for Cleanup's answer, which comes though nothing else of Lamella is there.
    (functions / "lamella").mkdir()
    for name in ("cleanup.py", "lamella/__init__.py", "lamella/custom_resource.py"):
        shutil.copy(ROOT / "lambdas" / "functions" / name, functions / name)
    (directory / "lambdas" / "layer").mkdir()
    (directory / "lambdas" / "layer" / "Makefile").write_text(EMPTY_LAYER)
    (directory / "workflows").mkdir()
    shutil.copy(ROOT / "workflows" / "inference.asl.json", directory / "workflows")
    return Path(shutil.copy(ROOT / "template.yaml", directory))


def deployed(directory: Path, cloud: EmbeddedCloud) -> Machine:
    """Deploy the project of stubs."""
    template = project_of_stubs(directory)
    parameters = {"Runtime": RUNTIME, "SlotGroups": "0"}
    outputs = deploy(cloud.endpoint_url, template, "stubs", parameters, cache_dir=directory / "cache")
    return Machine(cloud, outputs)


def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    until_s = time.monotonic() + UNTIL_S
    while not condition():
        assert time.monotonic() < until_s, "it never came"
        time.sleep(0.1)
