"""Templates of other shapes: nothing that SAM CLI needs is particular to this project's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.helpers import INLINE, SAMPLE, objects, wait_until
from tests.e2e.project import DEFAULT_RUNTIME, LOCAL_RUNTIME, REGION
from tests.e2e.remains import lambda_processes, named, remains
from tests.e2e.tools import Tools
from workflows.embedded_cloud import EmbeddedCloud

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONFIG = """
version = 0.1
[default.global.parameters]
stack_name = "{stack}"
language_extensions = true
[default.deploy.parameters]
resolve_s3 = true
capabilities = "CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"
"""


def folder_of(template: Path, tmp_path: Path, stack: str) -> Path:
    """A copy of a template's folder, with a samconfig.toml as anyone has one."""
    copied = tmp_path / stack
    shutil.copytree(template, copied)
    (copied / "samconfig.toml").write_text(CONFIG.format(stack=stack))
    return copied


def test_layer_by_makefile_loops_machine_and_rule(
    account: EmbeddedCloud, tools: Tools, tmp_path: Path
) -> None:
    """Policies by name, an alarm, an event of a machine, a layer by makefile."""
    folder = folder_of(SAMPLE, tmp_path, "other")
    parameters = ["--parameter-overrides", f"Runtime={LOCAL_RUNTIME} Prefix=other"]
    tools.sam("build", *parameters, folder=folder)
    assert "QueueUrlgreen" in tools.sam("deploy", *parameters, folder=folder)
    function = tools.outputs("other", folder)["WorkerName"]
    tools.aws("lambda", "invoke", "--function-name", function, tmp_path / "answer.json")
    assert json.loads((tmp_path / "answer.json").read_text())["pid"] in lambda_processes(account)
    tools.sam("delete", "--no-prompts", "--stack-name", "other", "--region", REGION, folder=folder)
    assert named(remains(account), "other") == {}


def test_inline_code_queue_event_mappings_conditions_and_nested_loops(
    account: EmbeddedCloud, tools: Tools, tmp_path: Path
) -> None:
    folder = folder_of(INLINE, tmp_path, "shops")
    tools.sam("validate", "--lint", folder=folder)

    def deploy(**parameters: str) -> dict[str, str]:
        given = " ".join(f"{name}={value}" for name, value in parameters.items())
        tools.sam("deploy", "--parameter-overrides", given, folder=folder)
        return tools.outputs("shops", folder)

    outputs = deploy(Runtime=LOCAL_RUNTIME)
    assert set(outputs) == {"WorkUrl", "DoneName"}
    assert exported(tools)["shops-work"] == outputs["WorkUrl"]
    assert names_of_topics(tools) == {
        f"shops-{shop}-{shelf}" for shop in ("north", "south") for shelf in ("low", "high")
    }
    assert ask(account, tools, outputs, "ann") == {
        "python": version(LOCAL_RUNTIME),
        "memory": "128",
        "said": "hello ann",
    }

    outputs = deploy(Runtime=DEFAULT_RUNTIME, Stage="live", Shops="south,west")
    assert outputs["ArchiveUrl"].endswith("/shops-archive")
    assert names_of_topics(tools) == {
        f"shops-{shop}-{shelf}" for shop in ("south", "west") for shelf in ("low", "high")
    }
    assert ask(account, tools, outputs, "bob") == {
        "python": version(DEFAULT_RUNTIME),
        "memory": "256",
        "said": "welcome bob",
    }

    tools.aws("s3", "rm", "--recursive", f"s3://{outputs['DoneName']}")
    tools.sam("delete", "--no-prompts", "--stack-name", "shops", "--region", REGION, folder=folder)
    # Lambda makes a log group at the first call where a template has none; on AWS too it outlives the stack.
    assert set(named(remains(account), "shops")) == {"log groups"}
    assert account.client("lambda").list_event_source_mappings()["EventSourceMappings"] == []
    assert exported(tools) == {}


def version(runtime: str) -> list[int]:
    return [int(part) for part in runtime.removeprefix("python").split(".")]


def exported(tools: Tools) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in tools.asked("cloudformation", "list-exports")["Exports"]}


def names_of_topics(tools: Tools) -> set[str]:
    arns = [each["TopicArn"] for each in tools.asked("sns", "list-topics").get("Topics", [])]
    return {arn.rsplit(":", 1)[-1] for arn in arns if ":shops-" in arn}


def ask(account: EmbeddedCloud, tools: Tools, outputs: dict[str, str], who: str) -> Any:
    """Send a message; what the function that it reaches writes."""
    # AWS CLI 1 sends SQS commands to AWS, whatever AWS_ENDPOINT_URL says; this option it heeds.
    endpoint = ("--endpoint-url", tools.cloud["AWS_ENDPOINT_URL"])
    tools.aws(*endpoint, "sqs", "send-message", "--queue-url", outputs["WorkUrl"], "--message-body", who)
    return json.loads(wait_until(lambda: objects(account, outputs["DoneName"]).get(who), 30))
