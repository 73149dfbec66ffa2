"""One embedded cloud, with the sample stack deployed, for all tests here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cloud.helpers import RUNTIME, SAMPLE
from workflows.embedded_cloud import EmbeddedCloud, deploy


@dataclass(frozen=True)
class Sample:
    """The sample stack's outputs, and the cloud that it is in."""

    cloud: EmbeddedCloud
    outputs: dict[str, str]


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@contextlib.contextmanager
def start_cloud(cache_dir: Path | None = None) -> Iterator[EmbeddedCloud]:
    """A cloud with a role; WITHOUT_PATCH=name shows that a patch's regression test fails without it."""
    left_out = [f"--without-patch={name}" for name in os.environ.get("WITHOUT_PATCH", "").split() if name]
    with EmbeddedCloud.start(cache_dir=cache_dir, server_options=left_out) as started:
        started.client("iam").create_role(RoleName="any", AssumeRolePolicyDocument="{}")
        yield started


@pytest.fixture(scope="session")
def cloud(cache_dir: Path) -> Iterator[EmbeddedCloud]:
    with start_cloud(cache_dir / "unzipped") as started:
        yield started


@pytest.fixture(scope="session")
def sample(cloud: EmbeddedCloud, cache_dir: Path) -> Sample:
    parameters = {"Runtime": RUNTIME}
    template = SAMPLE / "template.yaml"
    outputs = deploy(cloud.endpoint_url, template, "sample", parameters, cache_dir=cache_dir)
    return Sample(cloud, outputs)
