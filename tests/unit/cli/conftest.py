from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from model_prep.readers import open_source
from model_prep.writer import write_model
from workflows.cli.app import build
from workflows.embedded_cloud.launcher import EmbeddedCloud

FEATURES = 12


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared model of two layers, 12 features and 8 rows each, with cuts for 2, 4 and 8."""
    folder = tmp_path_factory.mktemp("source")
    draw = np.random.default_rng(7)
    for k, shape in enumerate([(8, FEATURES), (8, 8)], start=1):
        np.save(folder / f"layer-{k}.npy", draw.standard_normal(shape).astype(np.float32))
    out = folder / "model"
    write_model(open_source(str(folder)), out)
    return out


@pytest.fixture
def model(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared model that a test may damage."""
    copy = tmp_path / "model"
    for file in prepared.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(prepared)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return copy


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """Samples that fit the model."""
    path = tmp_path / "samples.npy"
    np.save(path, np.ones((3, FEATURES), np.float32))
    return path


Lamella = Callable[..., Result]


@pytest.fixture
def lamella(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lamella:
    """The command, which fails the test if it starts a cloud."""

    def refuse(*args: object, **kwargs: object) -> None:
        pytest.fail("a cloud was started")

    monkeypatch.setattr(EmbeddedCloud, "start", refuse)
    monkeypatch.setenv("LAMELLA_STATE_DIR", str(tmp_path / "state"))
    for name in ("LAMELLA_STACK", "LAMELLA_DEBUG", "AWS_ENDPOINT_URL", "LAMELLA_GRAPH_CHALLENGE"):
        monkeypatch.delenv(name, raising=False)

    def call(*args: object) -> Result:
        return CliRunner().invoke(build(), [str(arg) for arg in args])

    return call
