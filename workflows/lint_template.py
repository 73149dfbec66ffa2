"""cfn-lint on template.yaml, and on what AWS makes of it: loops expanded, SAM transformed.

``python -m workflows.lint_template [TEMPLATE] [--keep FILE]``; prints cfn-lint's findings, exit code 1 where
there are any.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
from cfnlint.api import lint  # type: ignore[import-untyped]
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from workflows.embedded_cloud import language_extensions

TEMPLATE = Path(__file__).resolve().parent.parent / "template.yaml"
REGION = "us-east-1"
FEW_SLOTS = {"Slots": "0,1"}
"""All slots are alike; a few make for a quick lint."""

EVERYTHING_ON = {
    "AutoModel": "s3://bucket/models/mine/",
    "NotificationEmail": "someone@example.com",
    "Notifications": "true",
    "ScheduleExpression": "rate(1 day)",
    "StartOnUpload": "true",
}
"""What is off by default. checkov passes over what a condition leaves out under the parameters' defaults."""

_LOCAL = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::StateMachine": "DefinitionUri",
}
_UPLOADED = "s3://artifacts/key"


def transformed(template: Path = TEMPLATE, parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The template that CloudFormation deploys, its local folders taken as uploaded.

    Parameters
    ----------
    parameters
        Values other than the defaults.
    """
    document = yaml_parse(template.read_text(encoding="utf-8"))
    values = {
        name: str(parameter["Default"])
        for name, parameter in document["Parameters"].items()
        if "Default" in parameter
    } | dict(parameters or {})
    del document["Transform"]
    document = language_extensions.expand(document, values)
    functions = document.get("Globals", {}).get("Function", {})
    for body in (functions, *(resource["Properties"] for resource in document["Resources"].values())):
        for name in _LOCAL.values():
            if name in body:
                body[name] = _UPLOADED
    document["Transform"] = "AWS::Serverless-2016-10-31"
    # Not samtranslator's own transform(), which wants a region to be configured.
    translator = Translator({}, Parser(), boto_session=boto3.session.Session(region_name=REGION))
    result: dict[str, Any] = translator.translate(document, values)
    return result


def everything_on(document: dict[str, Any]) -> dict[str, Any]:
    """A transformed template whose defaults leave nothing out."""
    parameters = {
        name: parameter | ({"Default": EVERYTHING_ON[name]} if name in EVERYTHING_ON else {})
        for name, parameter in document["Parameters"].items()
    }
    return document | {"Parameters": parameters}


def findings(template: Path, transformed_to: Path) -> list[str]:
    """What cfn-lint says of a template, and of what it is transformed to, a line each.

    Parameters
    ----------
    transformed_to
        Where to leave the latter.
    """
    document = everything_on(transformed(template, FEW_SLOTS))
    transformed_to.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return [
        f"{where}:{match.linenumber}: {match.rule.id} {match.message}"
        for where, path in ((template.name, template), (f"{template.name}, transformed", transformed_to))
        for match in lint(path.read_text(encoding="utf-8"), regions=[REGION])
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Lint; the number of findings decides the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workflows.lint_template", description=__doc__)
    parser.add_argument("template", nargs="?", type=Path, default=TEMPLATE)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="leave the transformed template there")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        found = findings(given.template, given.keep or Path(directory, "transformed.json"))
    sys.stderr.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
