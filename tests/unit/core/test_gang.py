"""A gang that is not complete says how many have started, and which have not."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from lamella.deadline import Deadline
from lamella.errors import DeadlineExceeded, GangIncomplete
from lamella.gang import meet, turned_away
from lamella.launch import MAX_INLINE_WORKERS, is_distributed, map_items
from lamella.layout import RunKeys
from lamella.plan import Assignment, LayerPart, Step, Task

KEYS = RunKeys("run", 2)


class Barrier:
    """Lets workers through, or fails as it is told."""

    def __init__(self, error: DeadlineExceeded | None = None) -> None:
        self.asked: list[tuple[int, float]] = []
        self._error = error

    def barrier(self, workers: int, until: Deadline) -> None:
        self.asked.append((workers, until.unix_s))
        if self._error:
            raise self._error


class Marks:
    """The marks of workers that have started."""

    def __init__(self, keys: RunKeys, workers: Iterable[int]) -> None:
        self._paths = [keys.started(worker) for worker in workers]

    def sizes(self, path: str = "") -> dict[str, int]:
        return {found: 9 for found in self._paths if found.startswith(path)}


def until(unix_s: float) -> Deadline:
    return Deadline(unix_s, lambda: 0.0, lambda: 0.0)


def assignment(workers: int) -> Assignment:
    step = Step((LayerPart(0, (0, 1), (0, 1), ""),), (0, 1))
    task = Task(worker=0, samples=(0, 1), features=None, steps=(step,), rows=(0, 1))
    return Assignment("run", 2, workers, "s3://b/m/", "", None, 900.0, task, 100.0, 30)


def test_a_complete_gang_goes_on() -> None:
    barrier = Barrier()
    meet(barrier, assignment(62), until(900.0), Marks(KEYS, []), KEYS)
    assert barrier.asked == [(62, 100.0)]


def test_the_workers_that_have_not_started_are_counted_and_named() -> None:
    marks = Marks(KEYS, [w for w in range(62) if w not in {3, 60}])
    with pytest.raises(GangIncomplete) as error:
        meet(
            Barrier(DeadlineExceeded("waited in vain for worker 3, 60")),
            assignment(62),
            until(900.0),
            marks,
            KEYS,
        )
    text = str(error.value)
    assert text.startswith("only 60 of 62 workers had started within 30 s (not 3, 60): ")
    assert "ask for fewer workers" in text
    assert "\n" not in text


def test_a_worker_whose_own_time_is_shorter_gives_up_while_it_can_say_so() -> None:
    barrier = Barrier(DeadlineExceeded("late"))
    with pytest.raises(GangIncomplete, match="within 10 s"):
        meet(barrier, assignment(8), until(80.0), Marks(KEYS, [0]), KEYS)
    assert barrier.asked == [(8, 80.0)]


def test_many_missing_workers_are_not_all_named() -> None:
    with pytest.raises(GangIncomplete, match=r"only 1 of 62 .*not 1, 2, 3, 4, 5, 6, 7, 8, \.\.\.\)"):
        meet(Barrier(DeadlineExceeded("late")), assignment(62), until(900.0), Marks(KEYS, [0]), KEYS)


def test_where_all_have_started_it_is_not_for_want_of_room() -> None:
    late = Barrier(DeadlineExceeded("waited in vain for worker 5"))
    with pytest.raises(DeadlineExceeded, match="waited in vain for worker 5"):
        meet(late, assignment(8), until(900.0), Marks(KEYS, range(8)), KEYS)


def test_a_worker_that_lambda_turned_away_is_named() -> None:
    text = turned_away(57, Marks(KEYS, range(57)), KEYS, 62)
    assert text.startswith("only 57 of 62 workers had started when Lambda had turned worker 57 away")


def test_marks_of_other_attempts_don_t_count() -> None:
    earlier = Marks(RunKeys("run", 1), range(8))
    assert "only 0 of 8" in turned_away(1, earlier, KEYS, 8)


def test_the_map_s_items_say_all_that_a_worker_s_execution_needs() -> None:
    items = json.loads(map_items("run", 2, "arn", 41))
    assert is_distributed(41)
    assert not is_distributed(MAX_INLINE_WORKERS)
    assert len(items) == 41
    assert items[40] == {"run": "run", "attempt": 2, "function": "arn", "worker": 40}
