"""Which of cfn-lint-serverless's rules are waived, and that the others are kept."""

from __future__ import annotations

import re
from pathlib import Path

from workflows.lint_template import TEMPLATE, WAIVED, findings

UNHEARD_RULE = """
  UnheardRule:
    Type: AWS::Events::Rule
    Properties:
      ScheduleExpression: rate(1 day)
      State: DISABLED
      Targets: [{Id: finish, Arn: !GetAtt FinishFunction.Arn}]

Outputs:
"""


def test_every_waiver_is_needed(tmp_path: Path) -> None:
    found = findings(TEMPLATE, tmp_path / "transformed.json", waived={})
    for rule, patterns in WAIVED.items():
        said = [each for each in found if f" {rule} " in each]
        for pattern in patterns:
            name = re.compile(rf"\b{pattern.replace('*', '[A-Za-z0-9]*')}\b")
            assert any(name.search(each) for each in said), (rule, pattern)


def test_a_rule_is_waived_only_where_it_is_said_to_be(tmp_path: Path) -> None:
    changed = tmp_path / "template.yaml"
    changed.write_text(TEMPLATE.read_text().replace("\nOutputs:\n", UNHEARD_RULE))
    kept = findings(changed, tmp_path / "transformed.json")
    assert kept
    assert all("ES4000" in each and "UnheardRule" in each for each in kept)
