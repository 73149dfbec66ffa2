"""`sam build` for the other processor, without Docker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.libraries import architectures
from tests.e2e.project import DEFAULT_RUNTIME, Project
from tests.e2e.tools import Tools
from workflows import built_sizes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_layer_is_for_arm64(tools: Tools, tmp_path: Path) -> None:
    project = Project.copy(tools, tmp_path, "unused", {"Architecture": "arm64"})
    assert f"layer for {DEFAULT_RUNTIME} on arm64" in project.build()
    built = tmp_path / ".aws-sam" / "build"
    assert architectures(built, DEFAULT_RUNTIME) == {"arm64"}
    assert all(function.fits for function in built_sizes.built_functions(built))
