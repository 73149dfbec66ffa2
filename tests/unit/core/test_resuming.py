"""Workers die, and are started twice: the bits are those of a run in which nothing happened."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella import checkpointer, held
from lamella.channels.memory import MemoryChannel
from lamella.inputs import Batch
from model_prep.writer import write_model
from tests.gang import GangPlan, infer
from tests.restarts import Fate, RestartedGang, killed_at
from tests.unit.core.test_strategies import dense, mixed, official_like, samples_for

PLANS = [
    GangPlan("serial", 1, 3),
    GangPlan("samples", 3, 2),
    GangPlan("rows", 3, 1),
    GangPlan("rows", 2, 4),
    GangPlan("pipeline", 3, 4),
    GangPlan("hybrid", 4, 2, 2),
]


@pytest.fixture(scope="module", params=[official_like, dense, mixed], ids=lambda make: make.__name__)
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Batch, bytes]:
    """A model, samples, and the serial answer."""
    source = request.param()
    model = tmp_path_factory.mktemp("model") / "m"
    write_model(source, model, workers=[2, 3, 4])
    batch = samples_for(source)
    return model, batch, infer(model, batch)[0].tobytes()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step, and in waits for whatever has come."""
    monkeypatch.setattr(checkpointer, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(checkpointer, "LEAST_SHARE", 0)
    monkeypatch.setattr(held, "RENEW_AFTER_S", 0.1)


def checked(gang: RestartedGang, expected: bytes) -> None:
    assert gang.output().tobytes() == expected


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_worker_that_dies_after_each_step_in_turn(
    subject: tuple[Path, Batch, bytes], plan: GangPlan
) -> None:
    model, batch, expected = subject
    gang = RestartedGang(model, batch, plan)
    victim = len(gang.tasks) - 1
    # Each start does one step more than the one before, until one has left its part.
    deaths = [killed_at(step) for step in range(1, len(gang.tasks[victim].steps) + 2)]
    gang.run({victim: deaths})
    checked(gang, expected)
    assert gang.incarnations[victim] == len(deaths)
    assert all(number == 1 for worker, number in gang.incarnations.items() if worker != victim)


@pytest.mark.parametrize("plan", [PLANS[2], PLANS[4]], ids=str)
def test_all_workers_die_before_their_first_checkpoint(
    subject: tuple[Path, Batch, bytes], plan: GangPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointer, "CHECKPOINT_S", 60.0)
    model, batch, expected = subject
    gang = RestartedGang(model, batch, plan)
    gang.run({worker: [killed_at(1 + worker), killed_at(2)] for worker in range(len(gang.tasks))})
    checked(gang, expected)
    assert set(gang.incarnations.values()) == {3}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_worker_dies_at_any_steps(subject: tuple[Path, Batch, bytes], data: st.DataObject) -> None:
    model, batch, expected = subject
    gang = RestartedGang(model, batch, data.draw(st.sampled_from(PLANS)))
    fates = {
        worker: [
            killed_at(step) for step in data.draw(st.lists(st.integers(1, len(task.steps) + 1), max_size=2))
        ]
        for worker, task in enumerate(gang.tasks)
    }
    gang.run(fates)
    checked(gang, expected)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_two_or_three_starts_of_each_worker_live_at_once(
    subject: tuple[Path, Batch, bytes], data: st.DataObject
) -> None:
    model, batch, expected = subject
    gang = RestartedGang(model, batch, data.draw(st.sampled_from(PLANS)))

    def nap(moments: set[int]) -> Fate:
        wake = threading.Event()

        def fate(steps: int) -> None:
            if steps in moments:
                wake.wait(0.05)

        return fate

    fates = {
        worker: [
            nap(data.draw(st.sets(st.integers(1, len(task.steps) + 1), max_size=4)))
            for _ in range(data.draw(st.integers(1, 3)))
        ]
        for worker, task in enumerate(gang.tasks)
    }
    gang.run(fates, at_once=True)
    checked(gang, expected)


def test_a_superseded_start_acknowledges_nothing_more(subject: tuple[Path, Batch, bytes]) -> None:
    model, batch, expected = subject
    gang = RestartedGang(model, batch, PLANS[2])
    asleep, awake = threading.Event(), threading.Event()
    counted: list[int] = []

    def sleeper(steps: int) -> None:
        if steps == 2:
            counted.append(gang.acknowledged.get(1, []).count(1))
            asleep.set()
            assert awake.wait(60)

    def second(steps: int) -> None:
        if steps == len(gang.tasks[1].steps) + 1:
            awake.set()

    runner = threading.Thread(target=lambda: gang.run({1: [sleeper]}))
    runner.start()
    assert asleep.wait(60)
    gang.start(1, second)
    runner.join(60)
    checked(gang, expected)
    assert gang.acknowledged[1].count(1) == counted[0]
    assert gang.acknowledged[1].count(2) > 0
    assert gang.incarnations[1] == 2


def test_without_checkpoints_in_between_nothing_is_acknowledged_before_the_part_is_there(
    subject: tuple[Path, Batch, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointer, "CHECKPOINT_S", 60.0)
    model, batch, expected = subject
    gang = RestartedGang(model, batch, PLANS[2])
    before: dict[int, int] = {}

    def look(worker: int) -> Fate:
        def fate(steps: int) -> None:
            if steps == len(gang.tasks[worker].steps) + 1:
                before[worker] = len(gang.acknowledged.get(worker, []))

        return fate

    gang.run({worker: [look(worker)] for worker in range(3)})
    checked(gang, expected)
    assert before == {0: 0, 1: 0, 2: 0}
    assert set(gang.acknowledged) == {0, 1, 2}
    assert [operation for operation, _ in gang.s3.asked].count("PutObject") == 3


def test_held_messages_are_kept_from_coming_again(
    subject: tuple[Path, Batch, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointer, "CHECKPOINT_S", 60.0)
    kept: list[int] = []
    original = MemoryChannel.keep

    def keep(self: MemoryChannel, deliveries: object) -> None:
        kept.append(1)
        original(self, deliveries)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryChannel, "keep", keep)
    model, batch, expected = subject
    gang = RestartedGang(model, batch, PLANS[2])
    pause = threading.Event()

    def slow(_: int) -> None:
        pause.wait(0.15)

    gang.run({0: [slow]})
    checked(gang, expected)
    assert kept
