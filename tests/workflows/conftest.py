"""One deployed state machine for every test here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.workflows.stub_project import Machine, deployed
from workflows.embedded_cloud import EmbeddedCloud


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The state machine, on a cloud with room for everything."""
    with EmbeddedCloud.start() as cloud:
        yield deployed(tmp_path_factory.mktemp("stubs"), cloud)
