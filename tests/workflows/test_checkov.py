"""What checkov is told to pass over in the transformed template."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflows.lint_template import FEW_SLOTS, everything_on, transformed

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "workflows" / "checkov" / "config.yaml"
INSTALLED = ROOT / "build" / "checkov" / "bin" / "checkov"


def waived() -> list[str]:
    found: list[str] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["skip-check"]
    return found


def test_every_waiver_has_its_reason() -> None:
    lines = CONFIG.read_text(encoding="utf-8").splitlines()

    for check in waived():
        assert lines[lines.index(f"  - {check}") - 1].startswith("  # ")


@pytest.mark.skipif(not INSTALLED.exists(), reason="checkov isn't installed: run `make lint`")
def test_every_waiver_is_needed_and_a_public_bucket_is_found(tmp_path: Path) -> None:
    template = everything_on(transformed(parameters=FEW_SLOTS))
    del template["Resources"]["Bucket"]["Properties"]["PublicAccessBlockConfiguration"]
    # A waiver of one resource alone stands beside it.
    (own,) = template["Resources"]["NotificationTopic"].pop("Metadata")["checkov"]["skip"]
    path = tmp_path / "template.json"
    path.write_text(json.dumps(template), encoding="utf-8")

    done = subprocess.run(
        [INSTALLED, "--framework", "cloudformation", "--skip-download", "--output", "json", "--file", path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    failed = {check["check_id"] for check in report["results"]["failed_checks"]}

    assert done.returncode == 1
    assert failed - set(waived()) == {
        "CKV_AWS_53",
        "CKV_AWS_54",
        "CKV_AWS_55",
        "CKV_AWS_56",
        own["id"],
    }
    assert set(waived()) <= failed
