"""Micro-batches hide latency: one is computed while another is on its way.

Messages take as long as a step's computation, which is made to take long.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamella import engine
from lamella.channels import Delivery, Place
from lamella.channels.base import Source
from lamella.channels.memory import MemoryChannel, MemoryHub
from lamella.inputs import Batch
from lamella.inputs.batch import dense_blocks, join
from lamella.kernel import forward
from lamella.plan import Range
from model_prep.radixnet import RadixNet
from model_prep.writer import write_model
from tests import gang
from tests.gang import GangPlan, infer_planned

LATENCY_S = 0.04
SECONDS_PER_SAMPLE = 0.01
SAMPLES = 8
LAYERS = 6


class SlowChannel(MemoryChannel):
    """Messages are not there before `LATENCY_S` after they were sent."""

    def __init__(self, hub: MemoryHub, worker: int) -> None:
        super().__init__(hub, worker)
        self._waiting: list[tuple[float, Delivery]] = []

    def send(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        stamp = np.float64(time.monotonic() + LATENCY_S).tobytes()
        super().send(place, [(peer, stamp + data) for peer, data in messages])

    def receive(self, wanted: Collection[Source], wait_s: float) -> list[Delivery]:
        until_s = time.monotonic() + wait_s
        while True:
            for delivery in super().receive(wanted, 0.001):
                due_s = float(np.frombuffer(delivery.data, np.float64, 1)[0])
                self._waiting.append((due_s, Delivery(delivery.data[8:], delivery.receipt)))
            now_s = time.monotonic()
            due = [delivery for due_s, delivery in self._waiting if due_s <= now_s]
            self._waiting = [item for item in self._waiting if item[0] > now_s]
            if due or now_s >= until_s:
                return due


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow messages, and layers that take their time for each sample."""

    def slow_forward(layers: Sequence[Any], x: Any, samples: Range, *more: Any) -> Any:
        time.sleep(SECONDS_PER_SAMPLE * (samples[1] - samples[0]))
        return forward(layers, x, samples, *more)

    monkeypatch.setattr(engine, "forward", slow_forward)
    monkeypatch.setattr(gang, "MemoryChannel", SlowChannel)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(RadixNet(64, LAYERS).source(), tmp_path / "m", workers=[2])
    return tmp_path / "m"


def batch() -> Batch:
    return join(dense_blocks(np.ones((SAMPLES, 64), np.float32), "x"), SAMPLES, 0, "x")


def run(model: Path, plan: GangPlan) -> tuple[float, float]:
    """Seconds that it took, and that the worker that waited least waited."""
    began = time.monotonic()
    _, records = infer_planned(model, batch(), plan)
    waits = [sum(record.wait_s for record in steps) for steps in records]
    return time.monotonic() - began, min(waits)


@pytest.mark.usefixtures("slow")
def test_rows_wait_less_with_two(model: Path) -> None:
    _, alone_s = run(model, GangPlan("rows", 2, 1))
    _, both_s = run(model, GangPlan("rows", 2, 2))
    assert alone_s > 0.8 * (LAYERS - 1) * LATENCY_S
    assert both_s < alone_s / 2


@pytest.mark.usefixtures("slow")
def test_workers_of_a_pipeline_compute_at_the_same_time(model: Path) -> None:
    alone_s, _ = run(model, GangPlan("pipeline", 3, 1))
    many_s, _ = run(model, GangPlan("pipeline", 3, 4))
    # Of four, each worker waits for one at a time of those before: six quarters instead of three wholes.
    assert many_s < 0.8 * alone_s
