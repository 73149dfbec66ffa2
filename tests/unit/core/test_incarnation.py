"""Of two starts of a worker one goes on, whatever comes between them."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from lamella.checkpoint import Checkpoint, Start, log_stream_of, parse_checkpoint
from lamella.errors import CloudError, MessageError, Superseded, WorkerError
from lamella.incarnation import Incarnation, take_over
from lamella.plan import LayerPart, Step, Task
from tests.memory_s3 import MemoryS3, lost, refusal

PATH = "checkpoints/0"
TASK = Task(0, (0, 4), None, (Step((LayerPart(0, (0, 2), (0, 4), ""),), (0, 4)),), (0, 2))


def begin(s3: MemoryS3, stream: str = "stream", *, may_go_on: bool = True) -> tuple[Incarnation, Checkpoint]:
    return take_over(s3.bucket(), PATH, TASK, stream, 1.0, lambda: may_go_on)


def test_the_first_start_makes_the_object_and_a_later_one_takes_it_over() -> None:
    s3 = MemoryS3()
    first, mine = begin(s3, "one")
    assert s3.asked == [("PutObject", PATH)]
    assert (mine.start.incarnation, mine.progress.steps) == (1, 0)
    first.check()
    second, theirs = begin(s3, "two")
    assert (theirs.start.incarnation, theirs.began_s) == (2, 1.0)
    assert log_stream_of(s3.objects[PATH][0]) == "two"
    second.check()
    assert not first.is_current()
    with pytest.raises(Superseded):
        first.check()
    before = s3.objects[PATH]
    with pytest.raises(Superseded):
        first.write(b"late")
    assert s3.objects[PATH] == before


def test_a_write_between_two_others_of_a_takeover_is_seen_by_it() -> None:
    s3 = MemoryS3()
    first, _ = begin(s3)
    saved = Checkpoint(Start(1, "nonce", "stream"), letters=(b"letter",))

    def save_once(operation: str, _: str) -> None:
        if operation == "GetObject":
            s3.before = lambda *_: None
            # After the object was read, and before it is replaced.
            s3.after = lambda *_: None
            data = s3.get_object(PATH)
            first.write(saved.to_bytes())
            assert data

    s3.before = save_once
    real_get = s3.get_object

    def get_then_save(Key: str, **_: object) -> dict[str, object]:  # noqa: N803
        answer = real_get(Key)
        if first.is_current() and s3.before is save_once:
            s3.before = lambda *_: None
            first.write(saved.to_bytes())
        return answer

    s3.before = save_once
    s3.get_object = get_then_save  # type: ignore[method-assign]
    second, theirs = begin(s3)
    assert theirs.letters == (b"letter",)
    assert theirs.start.incarnation == 2
    second.check()


def test_a_lost_answer_is_no_defeat() -> None:
    s3 = MemoryS3()

    def lose_once(operation: str, _: str) -> None:
        if operation == "PutObject":
            s3.after = lambda *_: None
            # As a client that asks again after a lost answer.
            raise refusal("PreconditionFailed", operation)

    s3.after = lose_once
    first, _ = begin(s3)
    s3.after = lose_once
    first.write(b"one")
    first.write(b"two")
    assert s3.objects[PATH][0] == b"two"
    first.check()


def test_while_somebody_writes_one_asks_again_and_no_answer_at_all_is_an_error() -> None:
    s3 = MemoryS3()
    first, _ = begin(s3)
    left = [3]

    def busy(operation: str, _: str) -> None:
        if operation == "PutObject" and left[0]:
            left[0] -= 1
            raise refusal("ConditionalRequestConflict", operation)

    s3.before = busy
    first.write(b"one")
    assert s3.objects[PATH][0] == b"one"
    left[0] = 100
    with pytest.raises(CloudError, match="others do so all the time"):
        first.write(b"two")

    def silent(*_: str) -> None:
        raise lost()

    s3.before = silent
    with pytest.raises(CloudError, match=f"writing s3://bucket/{PATH} failed"):
        first.write(b"three")
    with pytest.raises(CloudError, match="looking for"):
        first.check()


def test_of_a_run_that_is_over_nothing_comes_back() -> None:
    s3 = MemoryS3()
    first, _ = begin(s3)
    del s3.objects[PATH]
    with pytest.raises(Superseded):
        first.write(b"late")
    with pytest.raises(Superseded):
        first.check()
    assert PATH not in s3.objects


def test_whoever_may_not_go_on_says_where_to_look_and_changes_nothing() -> None:
    s3 = MemoryS3()
    begin(s3, "the first's")
    before = s3.objects[PATH]
    with pytest.raises(WorkerError, match="log stream the first's"):
        begin(s3, may_go_on=False)
    assert s3.objects[PATH] == before


def test_a_damaged_object_is_an_error_that_says_where() -> None:
    s3 = MemoryS3()
    begin(s3)
    data, tag = s3.objects[PATH]
    s3.objects[PATH] = (data[:-1] + bytes([data[-1] ^ 1]), tag)
    with pytest.raises(MessageError, match=f"s3://bucket/{PATH} is no checkpoint of this worker: damaged"):
        begin(s3)


def test_of_many_starts_at_once_each_has_a_number_of_its_own_and_the_last_goes_on() -> None:
    s3, together = MemoryS3(), threading.Barrier(6)

    def start(number: int) -> tuple[Incarnation, Checkpoint]:
        together.wait()
        return begin(s3, str(number))

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(start, range(6)))
    numbers = Counter(checkpoint.start.incarnation for _, checkpoint in found)
    assert numbers == Counter(range(1, 7))
    current = [checkpoint for incarnation, checkpoint in found if incarnation.is_current()]
    assert [checkpoint.start.incarnation for checkpoint in current] == [6]
    assert parse_checkpoint(s3.objects[PATH][0], TASK, "here").start == current[0].start
