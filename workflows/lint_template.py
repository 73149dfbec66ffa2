"""cfn-lint on template.yaml, and on what AWS makes of it: loops expanded, SAM transformed.

Its own rules and those of cfn-lint-serverless, which are AWS's advice for Lambda and what calls it.
``python -m workflows.lint_template [TEMPLATE] [--keep FILE]``; prints the findings, exit code 1 where there
are any.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
from cfnlint.api import ManualArgs, lint  # type: ignore[import-untyped]
from cfnlint.rules import Match  # type: ignore[import-untyped]
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from workflows.embedded_cloud import language_extensions

TEMPLATE = Path(__file__).resolve().parent.parent / "template.yaml"
REGION = "us-east-1"
FEW_SLOTS = {"SlotGroups": "0"}
"""All slots are alike; a few make for a quick lint."""
SERVERLESS_RULES = "cfn_lint_serverless.rules"

WAIVED = {
    # A queue for dead letters: a message that is not received in time belongs to a run that has failed for
    # want of it, and whose worker says so; nobody could make use of it later.
    "ES6000": ("SlotQueue*",),
    # The same for subscriptions. SNS tries to deliver to a queue for 23 days; only a queue that is gone, or
    # whose policy forbids it, loses a message, and then the receiving worker fails the run. A mail that can't
    # be delivered tells of what lies in the bucket all the same.
    "ES7000": ("SlotSubscription*", "NotificationSubscription"),
    # A queue for events that did not reach Finish: EventBridge tries for an hour. What Finish would have
    # released ends by itself, a lease with its function's time, a message after an hour. Of an upload it
    # tries to tell for a day; of a run's end, which the bucket has too, for an hour.
    "ES4000": ("StoppedRule", "UploadRule", "NotificationRule"),
    # Where Finish, called by that rule, fails: Lambda calls it twice more; for the rest, as above. Intake has
    # such a destination where there are notifications, in an Fn::If, which the rule does not look into.
    "ES1007": ("StoppedRulePermission", "UploadRulePermission"),
    # Log groups with a retention: each function has one, and names it in LoggingConfig, which the rule does
    # not look at: it wants /aws/lambda/ and the function's own Ref. tests/workflows/test_template.py holds
    # every function to a log group with a retention.
    "WS1004": ("*Function",),
}
"""Rules of cfn-lint-serverless that are not kept, with the logical ids where they are not, and why."""

EVERYTHING_ON = {
    "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:operators",
    "Alarms": "true",
    "AutoModel": "s3://bucket/models/mine/",
    "Dashboard": "true",
    "DataBuckets": "their-data",
    "KmsKeyArns": "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "NotificationEmail": "someone@example.com",
    "Notifications": "true",
    "ScheduleExpression": "rate(1 day)",
    "StartOnUpload": "true",
    "VpcSecurityGroupIds": "sg-0123456789abcdef0",
    "VpcSubnetIds": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
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


def findings(template: Path, transformed_to: Path, waived: Mapping[str, Sequence[str]] = WAIVED) -> list[str]:
    """What cfn-lint says of a template, and of what it is transformed to, a line each.

    Parameters
    ----------
    transformed_to
        Where to leave the latter.
    waived
        Rules, with patterns of the logical ids where they are not kept.
    """
    document = everything_on(transformed(template, FEW_SLOTS))
    transformed_to.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return [
        f"{where}:{match.linenumber}: {match.rule.id} {match.message}"
        for where, path in ((template.name, template), (f"{template.name}, transformed", transformed_to))
        for match in _lint(path)
        if not _is_waived(match, waived)
    ]


def _lint(path: Path) -> list[Match]:
    config = ManualArgs(regions=[REGION], append_rules=[SERVERLESS_RULES])
    return list(lint(path.read_text(encoding="utf-8"), config=config))


def _is_waived(match: Match, waived: Mapping[str, Sequence[str]]) -> bool:
    logical_id = str(match.path[1]) if len(match.path) > 1 else ""
    return any(fnmatch.fnmatchcase(logical_id, pattern) for pattern in waived.get(match.rule.id, ()))


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
