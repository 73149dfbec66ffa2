"""The official command lines, called as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import official_tools
from tests.e2e import terminal
from workflows.embedded_cloud.launcher import client_for


@dataclass(frozen=True)
class Tools:
    """SAM CLI and AWS CLI, set to use one cloud.

    Attributes
    ----------
    cloud
        The AWS settings that a user would export.
    """

    sam_bin: Path
    aws_bin: Path
    cloud: Mapping[str, str]

    def sam(
        self,
        *arguments: str,
        folder: Path,
        answers: str = "",
        fails: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Run SAM CLI; return what it says on standard output and error."""
        done = subprocess.run(
            [self.sam_bin / "sam", *arguments],
            cwd=folder,
            env=self.environment() | dict(variables or {}),
            input=answers,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (done.returncode != 0) == fails, f"sam {arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def sam_in_terminal(self, *arguments: str, folder: Path, answers: Mapping[str, str]) -> str:
        """Run SAM CLI in a terminal; a question gets the answer whose key it contains, else Return."""
        said, code = terminal.converse(
            [self.sam_bin / "sam", *arguments], folder, self.environment(), answers
        )
        assert code == 0, said
        return said

    def aws(self, *arguments: str | Path) -> str:
        """Run AWS CLI; return what it prints on standard output."""
        done = subprocess.run(
            [self.aws_bin / "aws", *arguments],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"aws {arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def asked(self, *arguments: str | Path) -> Any:
        """Run AWS CLI; return the JSON that it prints."""
        return json.loads(self.aws(*arguments))

    def outputs(self, stack: str, folder: Path) -> dict[str, str]:
        """What `sam list stack-outputs` tells of a stack."""
        told = self.sam("list", "stack-outputs", "--stack-name", stack, "--output", "json", folder=folder)
        return {each["OutputKey"]: each["OutputValue"] for each in json.loads(told)}

    def finished(self, execution: str) -> dict[str, Any]:
        """Wait for an execution to succeed; return what it put out."""
        machines = client_for(self.cloud["AWS_ENDPOINT_URL"], "stepfunctions")
        until = time.monotonic() + 120
        # A new process of AWS CLI for every look would take from the run what it waits for.
        while machines.describe_execution(executionArn=execution)["status"] == "RUNNING":
            assert time.monotonic() < until, f"{execution} does not end"
            time.sleep(0.1)
        description = self.asked("stepfunctions", "describe-execution", "--execution-arn", execution)
        assert description["status"] == "SUCCEEDED", description
        result: dict[str, Any] = json.loads(description["output"])
        return result

    def environment(self) -> dict[str, str]:
        """Nothing but what a user would set, and less waiting and calling home of SAM CLI's own."""
        path = os.pathsep.join([str(official_tools.BIN), os.environ.get("PATH", os.defpath)])
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        return {
            **inherited,
            **self.cloud,
            "AWS_PAGER": "",
            "PATH": path,
            "SAM_CLI_POLL_DELAY": "0.5",
            "SAM_CLI_TELEMETRY": "0",
        }
