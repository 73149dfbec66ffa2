"""One embedded cloud, an account new to Lambda, and the official command lines for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from model_prep.readers import open_source
from model_prep.writer import write_model
from tests import official_tools
from tests.e2e.project import ARCHITECTURE, DEFAULT_RUNTIME, LOCAL_RUNTIME, SOURCE, Project
from tests.e2e.tools import Tools
from tests.integration import batches
from workflows.embedded_cloud import EmbeddedCloud

NEW_ACCOUNT_CONCURRENCY = 10
NEW_ACCOUNT_MEMORY_MB = 3008


@pytest.fixture(scope="session")
def account() -> Iterator[EmbeddedCloud]:
    """A cloud with the limits of an account new to Lambda, where the template's default Python runs."""
    path = official_tools.python_on_path(DEFAULT_RUNTIME.removeprefix("python"))
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("PATH", path)
        started = EmbeddedCloud.start(
            cache_dir=batches.CHECKOUT / "build" / "embedded_cloud",
            concurrency=NEW_ACCOUNT_CONCURRENCY,
            largest_memory_mb=NEW_ACCOUNT_MEMORY_MB,
        )
    with started:
        yield started


@pytest.fixture(scope="session")
def binaries() -> tuple[Path, Path]:
    """Folders of the two command lines, each installed once in an environment of its own."""
    return official_tools.install(official_tools.SAM_CLI), official_tools.install(official_tools.AWS_CLI)


@pytest.fixture(scope="session")
def tools(account: EmbeddedCloud, binaries: tuple[Path, Path]) -> Tools:
    """The tools, set to use that account."""
    return Tools(*binaries, account.environment())


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared model."""
    out = tmp_path_factory.mktemp("model") / "model"
    write_model(open_source(SOURCE), out)
    return out


@pytest.fixture(scope="session")
def built_here(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Built for this Python, as the README says."""
    parameters = {"Runtime": LOCAL_RUNTIME, "Architecture": ARCHITECTURE}
    project = Project.copy(tools, tmp_path_factory.mktemp("here"), "end-to-end", parameters)
    said = project.build()
    assert f"layer for {LOCAL_RUNTIME} on {ARCHITECTURE}" in said
    return project
