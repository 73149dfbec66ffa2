"""How far a worker is, in layers of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamella.engine import StepRecord
from lamella.files import Directory
from lamella.manifest import read_manifest
from lamella.plan import Plan, StrategyName
from lamella.strategies import tasks_of
from lamella.task_progress import TaskProgress
from model_prep.writer import write_model
from tests.unit.prep.sources import random_source


@pytest.mark.parametrize(
    ("strategy", "workers", "micro_batches", "expected"),
    [
        ("serial", 1, 1, [(4, 5)]),
        ("serial", 1, 2, [(2, 5), (4, 11)]),
        ("pipeline", 2, 2, [(1, 5), (2, 11)]),
    ],
)
def test_progress(
    tmp_path: Path, strategy: StrategyName, workers: int, micro_batches: int, expected: list[tuple[int, int]]
) -> None:
    write_model(random_source([8, 8, 8, 8, 8]), tmp_path / "m")
    manifest = read_manifest(Directory(tmp_path / "m"))
    task = tasks_of(manifest, None, Plan(strategy, "sns", workers, 1024, 20, micro_batches))[-1]
    progress = TaskProgress(task)
    assert (progress.layer, progress.layers, progress.live) == (0, 4 // workers, 0)
    seen = []
    for step, live in zip(task.steps, (5, 6), strict=False):
        progress.add(StepRecord(step.parts[-1].layer, 0, 0, 0, 0, live))
        seen.append((progress.layer, progress.live))
    assert seen == expected
