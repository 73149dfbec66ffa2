"""One embedded cloud, with the project's template deployed to it, for every test that runs whole runs.

And how tests are dealt to processes, where there are several (``make test``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from lamella.client import Stack, upload_model
from model_prep.readers import open_source
from model_prep.writer import write_model
from tests.integration.stacks import put_stack
from workflows.cli.cloud import deployed_cloud
from workflows.cli.console import Output
from workflows.embedded_cloud import EmbeddedCloud

# On a busy machine an example may take long. For rarer failures: pytest --hypothesis-profile=thorough.
settings.register_profile("quick", settings(), deadline=None)
settings.register_profile("thorough", settings(), deadline=None, max_examples=3000)
settings.load_profile("quick")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that share a cloud stay in one process; other modes of ``--dist`` are as they are."""
    from tests.processes import ByCloud  # xdist is there if this is called

    return ByCloud(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.fixture(scope="session")
def deployment() -> Iterator[tuple[EmbeddedCloud, Stack]]:
    with deployed_cloud(Output(as_json=True)) as (cloud, stack):
        yield cloud, stack


@pytest.fixture(scope="session")
def cloud(deployment: tuple[EmbeddedCloud, Stack]) -> EmbeddedCloud:
    return deployment[0]


@pytest.fixture(scope="session")
def stack(deployment: tuple[EmbeddedCloud, Stack]) -> Stack:
    return deployment[1]


@pytest.fixture(scope="session")
def everything_on(cloud: EmbeddedCloud, alive_model: Path) -> Stack:
    """Another stack on the same cloud, with everything that is off by default."""
    from workflows.lint_template import EVERYTHING_ON  # whose imports take seconds

    address = upload_model(put_stack(cloud, "everything"), alive_model)
    options = json.dumps({"strategy": "serial", "activations": True})
    return put_stack(cloud, "everything", **(EVERYTHING_ON | {"AutoModel": address, "AutoOptions": options}))


@pytest.fixture(scope="session")
def alive_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, 256 neurons and 4 layers, in which no sample dies."""
    out = tmp_path_factory.mktemp("alive") / "model"
    write_model(open_source("alive:256x4"), out)
    return out


@pytest.fixture(scope="session")
def official_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official Graph Challenge network of 1,024 neurons and 120 layers, generated and prepared."""
    out = tmp_path_factory.mktemp("official") / "model"
    write_model(open_source("radixnet:1024x120"), out)
    return out


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same kind of network, 256 neurons and 24 layers: a run of it takes a second or two."""
    out = tmp_path_factory.mktemp("small") / "model"
    write_model(open_source("radixnet:256x24"), out)
    return out


@pytest.fixture(scope="session")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 layers of 256 neurons: a run of it takes some seconds, and can be disturbed in the middle."""
    out = tmp_path_factory.mktemp("long") / "model"
    write_model(open_source("radixnet:256x240"), out, workers=[3, 4])
    return out
