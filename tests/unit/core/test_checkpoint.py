"""A checkpoint is read back to the bit, or refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import checkpoint as module
from lamella.activations import Activations
from lamella.checkpoint import Checkpoint, Start, log_stream_of, parse_checkpoint, received_until
from lamella.checkpoint_cost import checkpoint_cost
from lamella.codec import Base, Bases
from lamella.codec.live import packed
from lamella.cost import load_book
from lamella.engine import Progress, StepRecord
from lamella.errors import MessageError
from lamella.plan import LayerPart, Link, Range, Step, Task

LAYERS = 3
ROWS = (2, 7)
words = st.integers(0, 2**32 - 1)


def task_of(micro_batches: list[Range], rows: Range = ROWS) -> Task:
    link = (Link(1, np.arange(2)),)
    steps = tuple(
        Step((LayerPart(layer, rows, (0, 9), ""),), samples, link if layer else (), link)
        for layer in range(LAYERS)
        for samples in micro_batches
    )
    return Task(3, (micro_batches[0][0], micro_batches[-1][1]), None, steps, rows)


@st.composite
def blocks(draw: st.DrawFn, rows: int, samples: Range) -> Activations:
    """Any bits; no sample of them is dead."""
    live = np.array(sorted(draw(st.sets(st.integers(samples[0], samples[1] - 1)))), np.int64)
    cells = draw(st.lists(words, min_size=rows * len(live), max_size=rows * len(live)))
    values = np.array(cells, np.uint32).reshape(rows, len(live)).view(np.float32)
    return Activations(live, values).without_dead()


@st.composite
def checkpoints(draw: st.DrawFn) -> tuple[Checkpoint, Task]:
    """How far a worker may have come."""
    cuts = sorted(draw(st.sets(st.integers(1, 11), max_size=3)))
    bounds = [0, *cuts, 12]
    micro_batches = list(pairwise(bounds))
    task = task_of(micro_batches)
    done = draw(st.integers(0, len(task.steps)))
    started = {step.samples for step in task.steps[:done]}
    waiting = {step.samples for step in task.steps[done:]}
    rows = ROWS[1] - ROWS[0]

    def some(which: set[Range]) -> dict[Range, Activations]:
        return {samples: draw(blocks(rows, samples)) for samples in sorted(which)}

    bases = Bases()
    for found in (bases.sent, bases.received):
        for peer, samples in draw(st.sets(st.tuples(st.integers(0, 2), st.sampled_from(micro_batches)))):
            count = samples[1] - samples[0]
            live = draw(st.sets(st.integers(0, count - 1)))
            bits = packed(np.array(sorted(live), np.int64), count)
            found[peer, samples] = Base(draw(st.integers(0, 9)), bits)
    seconds = st.floats(0, 1e6)
    records = [
        StepRecord(
            layer, draw(seconds), draw(seconds), draw(seconds), draw(seconds), draw(st.integers(0, 12))
        )
        for layer in range(done)
    ]
    progress = Progress(done, some(started & waiting), some(started - waiting), bases, records)
    given_ = Checkpoint(
        start=Start(draw(st.integers(1, 5)), draw(st.text(max_size=8)), draw(st.text(max_size=20))),
        progress=progress,
        letters=tuple(draw(st.lists(st.binary(max_size=30), max_size=4))),
        objects_left=draw(st.integers(0, 9)),
        written=draw(st.integers(0, 9)),
        began_s=draw(seconds),
        joined_s=draw(seconds),
        usage={"s3.put_object": {"calls": 1, "billed": 1, "bytes": draw(st.integers(0, 99))}},
    )
    return given_, task


def same(a: Activations, b: Activations) -> bool:
    return (
        a.live.tolist() == b.live.tolist()
        and a.values.shape == b.values.shape
        and a.values.tobytes() == b.values.tobytes()
    )


@given(checkpoints(), st.sampled_from([1, 64, 4 << 20]))
def test_what_is_written_is_read(given_: tuple[Checkpoint, Task], block_bytes: int) -> None:
    wrote, task = given_
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block_bytes)
        data = wrote.to_bytes()
        read = parse_checkpoint(data, task, "here")
    assert log_stream_of(data) == wrote.start.log_stream
    for name in ("start", "letters", "objects_left", "written", "began_s", "joined_s", "usage"):
        assert getattr(read, name) == getattr(wrote, name)
    mine, theirs = wrote.progress, read.progress
    assert (mine.steps, mine.records) == (theirs.steps, theirs.records)
    for kind in ("held", "finished"):
        one, other = getattr(mine, kind), getattr(theirs, kind)
        assert one.keys() == other.keys()
        assert all(same(one[samples], other[samples]) for samples in one)
    for kind in ("sent", "received"):
        one, other = getattr(mine.bases, kind), getattr(theirs.bases, kind)
        assert {pair: (base.layer, base.bits.tobytes()) for pair, base in one.items()} == {
            pair: (base.layer, base.bits.tobytes()) for pair, base in other.items()
        }


@given(checkpoints(), st.data())
def test_what_is_damaged_is_refused(given_: tuple[Checkpoint, Task], data: st.DataObject) -> None:
    wrote, task = given_
    good = wrote.to_bytes()
    bad = bytearray(good)
    if data.draw(st.booleans()):
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del bad[data.draw(st.integers(0, len(bad) - 1)) :]
    try:
        read = parse_checkpoint(bytes(bad), task, "s3://b/k")
    except MessageError as error:
        assert str(error).startswith("s3://b/k is no checkpoint of this worker: ")  # noqa: PT017
        return
    # A bit of what pads the header changes nothing.
    assert read.to_bytes() == good


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(MessageError):
        parse_checkpoint(noise, task_of([(0, 4)]), "here")
    with pytest.raises(MessageError):
        log_stream_of(noise)


def test_a_checkpoint_of_another_task_is_refused() -> None:
    task = task_of([(0, 4), (4, 8)])
    block = Activations(np.arange(0, 4), np.ones((5, 4), np.float32))
    progress = Progress(1, held={(0, 4): block}, records=[StepRecord(0, 0, 0, 0, 0, 4)])
    data = Checkpoint(Start(1, "n", "s"), progress).to_bytes()
    assert parse_checkpoint(data, task, "here").progress.steps == 1
    with pytest.raises(MessageError, match="other micro-batches are held"):
        parse_checkpoint(data, task_of([(0, 2), (2, 8)]), "here")
    with pytest.raises(MessageError, match="5 rows x 4 samples came instead of 3 x 4"):
        parse_checkpoint(data, task_of([(0, 4), (4, 8)], (0, 3)), "here")


def test_the_letters_that_steps_take() -> None:
    task = task_of([(0, 4), (4, 8)])
    assert received_until(task, 2) == set()
    assert received_until(task, 4) == {((1, 0), 1), ((1, 4), 1)}
    assert len(received_until(task, 99)) == 4


def test_equal_bases_are_written_once() -> None:
    task = task_of([(0, 80_000)])
    base = Base(1, packed(np.arange(0, 80_000, 2), 80_000))

    def size(peers: int) -> int:
        bases = Bases()
        for peer in range(peers):
            bases.sent[peer, (0, 80_000)] = Base(1, base.bits.copy())
        return len(Checkpoint(Start(1, "n", "s"), Progress(bases=bases)).to_bytes())

    assert task.samples == (0, 80_000)
    assert size(9) - size(1) < 1000 < 10_000 < size(1)


def test_their_most_cost_is_that_of_their_requests() -> None:
    priced = checkpoint_cost(10, 100.0, load_book())
    # A PUT every 2 s and a look every 5 s: $5 and $0.40 a million.
    assert priced.most_usd_per_s == pytest.approx(10 * (5e-6 / 2 + 4e-7 / 5))
    assert priced.most_usd == pytest.approx(100 * priced.most_usd_per_s + 20 * 4e-7)
    assert priced.every_s == 2.0
