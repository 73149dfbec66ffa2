"""The state machine, authored in Python and rendered to ``workflows/inference.asl.json``."""

from __future__ import annotations

from pathlib import Path

RENDERED = Path(__file__).resolve().parent.parent / "inference.asl.json"
"""What is checked in, and what template.yaml deploys."""
