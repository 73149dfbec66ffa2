"""Models that benchmarks prepare once and keep."""

from __future__ import annotations

import shutil
from pathlib import Path

from lamella.errors import ModelError
from lamella.files import Directory
from lamella.manifest import read_manifest
from model_prep.readers import open_source
from model_prep.writer import write_model
from workflows.cli.cloud import CHECKOUT
from workflows.cli.console import Output

CACHE = CHECKOUT / "build" / "benchmarks"


def prepared_model(network: str, output: Output, workers: int | None = None) -> Path:
    """The network, prepared, for a number of workers if one is named, unless it was before."""
    folder = CACHE / (network.replace(":", "-") + (f"-{workers}" if workers else ""))
    try:
        read_manifest(Directory(folder))
    except ModelError:
        # Not there, or of an older version.
        output.say(f"preparing {network}")
        shutil.rmtree(folder, ignore_errors=True)
        write_model(open_source(network), folder, workers=[workers] if workers else None)
    return folder
