"""A copy of what is deployed, built, deployed and used with the official tools."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from scipy import sparse

from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from tests.e2e.tools import Tools
from tests.integration import batches
from workflows.embedded_cloud.interpreters import running_version

DEPLOYED = (
    "template.yaml",
    "samconfig.toml",
    "lambdas",
    "workflows/inference.asl.json",
    "workflows/listed-by-sam.yaml",
)
SOURCE = "radixnet:256x24"
LOCAL_RUNTIME = f"python{running_version()}"
DEFAULT_RUNTIME = "python3.13"
ARCHITECTURE = "arm64" if platform.machine().lower() in ("aarch64", "arm64") else "x86_64"
REGION = "us-east-1"
REPORTER = """
import importlib, os, sys

def handler(event, context):
    return {
        "version": list(sys.version_info[:2]),
        "path": sys.path,
        "modules": {name: importlib.import_module(name).__file__ for name in event["modules"]},
        "environment": dict(os.environ),
    }
"""


@dataclass(frozen=True)
class Project:
    """A folder that a user deploys from.

    Attributes
    ----------
    parameters
        Of the template, where not its defaults.
    """

    tools: Tools
    folder: Path
    stack: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def copy(cls, tools: Tools, folder: Path, stack: str, parameters: Mapping[str, str]) -> Project:
        """Copy what is deployed to a folder of its own: a build for a test must not replace the user's."""
        for name in DEPLOYED:
            source, target = batches.CHECKOUT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        (folder / "lambdas" / "functions" / "reporter.py").write_text(REPORTER)
        return cls(tools, folder, stack, parameters)

    def built_copy(self, folder: Path, stack: str) -> Project:
        """Another folder with the same build, whose samconfig.toml is its own."""
        shutil.copytree(self.folder / ".aws-sam", folder / ".aws-sam", copy_function=os.link)
        return Project.copy(self.tools, folder, stack, self.parameters)

    def build(self, *arguments: str, **more: str) -> str:
        """Run `sam build` as the README says for these parameters, with ``more`` in the environment."""
        named = {"Runtime": "RUNTIME", "Architecture": "ARCHITECTURE"}
        variables = {named[name]: value for name, value in self.parameters.items() if name in named}
        return self.sam("build", *self._overrides({}), *arguments, variables=variables | more)

    def deploy(self, *, answers: str = "", fails: bool = False, **changed: str) -> str:
        """Run `sam deploy`, with parameters that this deployment changes."""
        given = self._overrides(changed)
        stack = () if self.stack == "lamella" else ("--stack-name", self.stack)
        confirmed = () if answers else ("--no-confirm-changeset",)
        return self.sam("deploy", *stack, *confirmed, *given, answers=answers, fails=fails)

    def delete(self) -> str:
        """Run `sam delete`."""
        return self.sam("delete", "--no-prompts", "--stack-name", self.stack, "--region", REGION)

    def outputs(self) -> dict[str, str]:
        """Outputs of the stack."""
        return self.tools.outputs(self.stack, self.folder)

    def sam(self, *arguments: str, **options: Any) -> str:
        """Run SAM CLI here."""
        return self.tools.sam(*arguments, folder=self.folder, **options)

    def described(self) -> dict[str, Any]:
        """What CloudFormation tells of the stack."""
        answer = self.tools.asked("cloudformation", "describe-stacks", "--stack-name", self.stack)
        stack: dict[str, Any] = answer["Stacks"][0]
        return stack

    def report(self, function: str, modules: tuple[str, ...]) -> dict[str, Any]:
        """What a function of the stack, so with its layer, environment and role, tells of its interpreter."""
        name = ("--function-name", f"{self.stack}-{function}")
        configuration = self.tools.asked("lambda", "get-function-configuration", *name)
        configure = ("lambda", "update-function-configuration", *name, "--handler")
        self.tools.aws(*configure, "reporter.handler")
        answer = self.folder / "report.json"
        payload = json.dumps({"modules": modules})
        self.tools.aws("lambda", "invoke", *name, "--payload", payload, answer)
        self.tools.aws(*configure, configuration["Handler"])
        told: dict[str, Any] = json.loads(answer.read_text())
        return told

    def _overrides(self, changed: Mapping[str, str]) -> tuple[str, ...]:
        values = {**self.parameters, **changed}
        given = (f"{name}='{value}'" if " " in value else f"{name}={value}" for name, value in values.items())
        return ("--parameter-overrides", *given) if values else ()


def run_and_compare(
    tools: Tools, outputs: Mapping[str, str], folder: Path, seed: int = 0, **fields: Any
) -> dict[str, Any]:
    """Start an execution by hand, and hold all of its predictions to plain scipy's; what it put out.

    Parameters
    ----------
    fields
        Of the run's input, beside the model and the samples; none is what a person types into the console.
    """
    matrix, address = upload(tools, outputs, folder, "inputs/", seed)
    request = {"model": model_address(outputs), "input": address, **fields}
    machine = ("--state-machine-arn", outputs["StateMachineArn"])
    started = tools.asked("stepfunctions", "start-execution", *machine, "--input", json.dumps(request))
    summary = tools.finished(started["executionArn"])
    compare(tools, summary, matrix, folder)
    return summary


def model_address(outputs: Mapping[str, str]) -> str:
    """Where the model lies that the tests upload."""
    return f"s3://{outputs['BucketName']}/models/mine/"


def upload(
    tools: Tools, outputs: Mapping[str, str], folder: Path, prefix: str, seed: int
) -> tuple[sparse.csr_array, str]:
    """Upload generated samples; the samples and their address."""
    matrix = batches.blobs(400, 16, seed=seed)
    batch = batches.write_npz(folder / f"{seed}.npz", matrix)
    address = f"s3://{outputs['BucketName']}/{prefix}{batch.name}"
    tools.aws("s3", "cp", batch, address)
    return matrix, address


def compare(tools: Tools, summary: Mapping[str, Any], matrix: sparse.csr_array, folder: Path) -> None:
    """Hold what a run wrote to plain scipy's: predictions, and every bit of activations if it has them."""
    rows = list(csv.DictReader(io.StringIO(tools.aws("s3", "cp", summary["predictions"], "-"))))
    plain = plain_scipy(open_source(SOURCE), matrix)
    assert [int(row["argmax"]) for row in rows] == plain.argmax(axis=1).tolist()
    assert [int(row["nonzero"]) for row in rows] == np.count_nonzero(plain, axis=1).tolist()
    if summary.get("activations"):
        tools.aws("s3", "cp", summary["activations"], folder / "activations.safetensors")
        found = load_file(folder / "activations.safetensors")["activations"]
        assert found.tobytes() == np.ascontiguousarray(plain, dtype=np.float32).tobytes()
