"""The few cheap runs that a profile is made of, and what they cost."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lamella.client import Stack
from lamella.cost import PriceBook
from lamella.cut import read_cut
from lamella.events import RunRequest
from lamella.files import Directory
from lamella.manifest import Manifest, read_manifest
from lamella.plan import ChannelName, Plan, StrategyName
from lamella.prediction import Activity, Profile, Workload, predict, workload_of
from lamella.strategies import NEEDS_CUT
from model_prep.readers import open_source
from model_prep.writer import write_model
from workflows.calibration.fit import Observation
from workflows.cli.console import Output
from workflows.cli.runs import place_input, place_model, run_to_end

NETWORK, LAYERS = "alive:1024x24", 24
# Nothing dies in it, and a message takes so much for each activation (as metered).
ACTIVITY = Activity("no sample of the trials' network dies", (1.0,) * (LAYERS + 1), cell_bytes=1.65)
FEW, SOME, MANY = 16, 64, 512  # samples
MEMORY_MB = 1769
WORKERS = (2, 8)


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes
    ----------
    cold
        Whether it is the first of its function since long, so that environments have to start.
    """

    name: str
    strategy: StrategyName
    channel: ChannelName = "none"
    workers: int = 1
    samples: int = FEW
    cold: bool = False
    micro_batches: int = 1

    @property
    def plan(self) -> Plan:
        return Plan(self.strategy, self.channel, self.workers, MEMORY_MB, self.samples, self.micro_batches)


def trials(channels: Sequence[ChannelName], *, large: bool = False) -> list[Trial]:
    """In their order: the first starts what the others find.

    Parameters
    ----------
    large
        With letters large enough to tell what their bytes take, on a machine where that is much.
    """
    few, many = WORKERS
    return [
        Trial("cold", "serial", cold=True),
        Trial("few", "serial"),
        Trial("many", "serial", samples=MANY),
        Trial("gang", "samples", workers=many, samples=MANY),
        *(Trial(f"{channel}-{p}", "rows", channel, p) for channel in channels for p in (few, many)),
        *(Trial(f"{channel}-large", "rows", channel, many, SOME) for channel in channels if large),
    ]


def expected_usd(chosen: Sequence[Trial], profile: Profile, book: PriceBook) -> float:
    """What all of them are predicted to cost, by that profile."""
    with tempfile.TemporaryDirectory(prefix="lamella-calibrate-") as folder:
        model = _prepared(Path(folder))
        manifest = read_manifest(model)
        return sum(
            predict(_workload(model, manifest, trial), profile, book, cold=trial.cold).usd["total"]
            for trial in chosen
        )


def run_trials(
    stack: Stack, chosen: Sequence[Trial], output: Output, *, local: bool
) -> dict[str, Observation]:
    """Run them one after the other.

    Raises
    ------
    LamellaError
        If one fails.
    """
    found: dict[str, Observation] = {}
    with tempfile.TemporaryDirectory(prefix="lamella-calibrate-") as folder:
        model = _prepared(Path(folder))
        manifest = read_manifest(model)
        model_uri = place_model(stack, str(model.root))
        inputs = {count: _placed(stack, Path(folder), count) for count in {trial.samples for trial in chosen}}
        for trial in chosen:
            output.say(f"{trial.strategy} by {trial.workers}, {trial.channel}, {trial.samples} samples")
            request = RunRequest(
                model=model_uri,
                input=inputs[trial.samples],
                strategy=trial.strategy,
                channel="auto" if trial.channel == "none" else trial.channel,
                workers=trial.workers,
                memory_mb=MEMORY_MB,
                micro_batches=trial.micro_batches,
            )
            handle = run_to_end(stack, request, output, destination=None, local=local).handle
            summary: dict[str, Any] = json.loads(stack.files().read(f"runs/{handle.run_id}/summary.json"))
            found[trial.name] = Observation(_workload(model, manifest, trial), summary)
    return found


def _prepared(folder: Path) -> Directory:
    write_model(open_source(NETWORK), folder / "model", workers=list(WORKERS))
    return Directory(folder / "model")


def _workload(model: Directory, manifest: Manifest, trial: Trial) -> Workload:
    plan = trial.plan
    cut = read_cut(model, manifest, plan.row_workers) if plan.strategy in NEEDS_CUT else None
    return workload_of(manifest, cut, plan, ACTIVITY)


def _placed(stack: Stack, folder: Path, samples: int) -> str:
    path = folder / f"samples-{samples}.npy"
    np.save(path, np.random.default_rng(0).random((samples, 1024), np.float32))
    return place_input(stack, str(path))
