"""Parts in blocks of samples: workers write them, and Collect puts them together in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load, save

from lamella import part_stream, parts, predictions
from lamella.activations import Activations
from lamella.codec import encode
from lamella.dealing import Dealing, parse_dealing
from lamella.errors import RunError
from lamella.kernel.curves import softmax
from lamella.part_stream import PartStream
from lamella.parts import PartIndex, block_bounds, part_to_bytes
from lamella.plan import Range
from lamella.predictions import (
    SampleBlock,
    activations_head,
    categories,
    prediction_lines,
    sample_blocks,
    step_samples,
)
from lamella.records import Share
from tests.parts import REPORT, MemoryFiles, assembled, collected, part_files

MIB = 1 << 20
NOBODY = Share((0, 0), (0, 0))


@contextmanager
def sizes(block_bytes: int, first_bytes: int = 64, ahead_bytes: int = 256) -> Iterator[None]:
    """Blocks and reads of a few bytes, so that a small output has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "BLOCK_BYTES", block_bytes)
        patch.setattr(predictions, "BLOCK_BYTES", block_bytes)
        patch.setattr(part_stream, "FIRST_BYTES", first_bytes)
        patch.setattr(part_stream, "AHEAD_BYTES", ahead_bytes)
        patch.setattr(part_stream, "LEAST_READ_BYTES", 16)
        yield


@dataclass(frozen=True)
class Output:
    """A whole output, and how it is cut: rows x groups of samples, and workers that have nothing of it."""

    dense: NDArray[np.float32]
    order: NDArray[np.int64]
    shares: list[Share]
    dealing: Dealing

    def parts(self) -> list[Activations]:
        """What each worker has, its dead samples left out or, in every other, kept."""
        positions = self.dealing.samples(np.arange(len(self.dense)))
        stored = self.dense[positions][:, self.order].T
        found = []
        for worker, share in enumerate(self.shares):
            block = np.ascontiguousarray(stored[slice(*share.rows), slice(*share.samples)])
            whole = Activations(np.arange(*share.samples), block)
            found.append(whole.without_dead() if worker % 2 else whole)
        return found


def bounds(draw: st.DrawFn, total: int, most: int) -> list[Range]:
    """A total, cut into ranges, some of them empty."""
    inner = sorted(draw(st.lists(st.integers(0, total), max_size=most - 1)))
    edges = [0, *inner, total]
    return list(pairwise(edges))


@st.composite
def outputs(draw: st.DrawFn) -> Output:
    samples, rows = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dense = generator.standard_normal((samples, rows)).astype(np.float32)
    dense[generator.random(dense.shape) < draw(st.sampled_from([0, 0.5, 0.95]))] = 0
    dense[generator.random(samples) < draw(st.sampled_from([0, 0.5, 1]))] = 0
    groups = [group for group in bounds(draw, samples, 4) if group[0] < group[1]]
    shares = [Share(cut, group) for group in groups for cut in bounds(draw, rows, 4)]
    shares += draw(st.lists(st.just(NOBODY), max_size=2))
    shares = draw(st.permutations(shares))
    dealing = Dealing()
    if draw(st.booleans()):
        numbers = generator.permutation(samples).astype(np.uint32)
        for start, stop in groups:
            numbers[start:stop].sort()
        dealing = Dealing(numbers)
    return Output(dense, generator.permutation(rows), shares, dealing)


@settings(deadline=None, max_examples=150)
@given(outputs(), st.sampled_from([1, 40, 200, 5000]), st.sampled_from([0, 100, 10_000]), st.booleans())
def test_parts_of_any_cut_are_the_whole_output_again(
    output: Output, block_bytes: int, first_bytes: int, softmaxed: bool
) -> None:
    expected = softmax(np.ascontiguousarray(output.dense.T)).T if softmaxed else output.dense
    with sizes(block_bytes, first_bytes):
        got = collected(
            output.parts(),
            output.shares,
            len(output.dense),
            output.order,
            output.dealing,
            softmaxed=softmaxed,
        )

    assert got.tobytes() == np.ascontiguousarray(expected).tobytes()


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(1, 10**4), st.integers(1, 1000))
def test_blocks_follow_each_other_and_all_workers_together_are_bounded(
    rows: int, start: int, count: int, workers: int
) -> None:
    blocks = block_bounds(Share((7, 7 + rows), (start, start + count)), workers)

    assert blocks[0][0] == start
    assert blocks[-1][1] == start + count
    assert all(before[1] == after[0] for before, after in pairwise(blocks))
    longest = max(stop - first for first, stop in blocks)
    assert longest == 1 or 4 * rows * longest * workers <= parts.BLOCK_BYTES


def test_a_worker_without_outputs_leaves_its_report_alone() -> None:
    share = Share((0, 0), (0, 10))
    data = part_to_bytes(Activations(np.arange(0), np.zeros((0, 0), np.float32)), share, 3, REPORT)

    assert load(data) == {}
    with PartStream(MemoryFiles({"0": data}), str, [share], Dealing()) as stream:
        assert stream.reports == (REPORT,)
        assert list(stream.pieces((0, 10))) == []


def test_a_part_is_a_safetensors_file_with_a_tensor_per_block() -> None:
    block = Activations(np.arange(20), np.ones((2, 20), np.float32))
    with sizes(64):
        tensors = load(part_to_bytes(block, Share((4, 6), (0, 20)), 1, REPORT))

    assert sorted(map(int, tensors)) == [0, 8, 16]
    assert tensors["16"].tobytes() == encode(block.select((16, 20)), (16, 20))


SHARES = [Share((0, 2), (0, 30)), Share((2, 3), (0, 30))]


def written() -> MemoryFiles:
    """Parts of two workers that many reads are needed for, none of them compressible."""
    values = np.random.default_rng(3).standard_normal((3, 30)).astype(np.float32)
    return part_files([Activations(np.arange(30), values[slice(*share.rows)]) for share in SHARES], SHARES)


def test_small_parts_are_read_once_each_and_whole() -> None:
    files = written()
    assembled(files, SHARES, 30, np.arange(3))

    assert sorted(files.reads) == [("0", 0, len(files.data["0"])), ("1", 0, len(files.data["1"]))]


def test_large_parts_are_read_by_range_and_no_byte_of_a_block_twice() -> None:
    with sizes(72, first_bytes=0):
        files = written()
        assembled(files, SHARES, 30, np.arange(3))

    for name, data in files.data.items():
        spans = sorted((start, stop) for path, start, stop in files.reads if path == name)
        first_block = 8 + int.from_bytes(data[:8], "little")
        blocks = [span for span in spans if span[0] >= first_block]
        assert len(blocks) > 2
        assert blocks[0][0] == first_block
        assert all(before[1] == after[0] for before, after in pairwise(blocks))
        assert blocks[-1][1] == len(data)


def refused(files: MemoryFiles) -> str:
    with pytest.raises(RunError) as caught:
        assembled(files, SHARES, 30, np.arange(3))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_part_names_its_worker() -> None:
    files = written()
    del files.data["1"]

    assert refused(files) == "worker 1 left no part of the output (there is no 1)"


@pytest.mark.parametrize("share", [Share((2, 4), (0, 29)), Share((2, 3), (1, 31)), Share((0, 0), (0, 30))])
def test_a_part_of_another_share_is_refused(share: Share) -> None:
    files = written()
    count = share.samples[1] - share.samples[0]
    values = np.ones((share.rows[1] - share.rows[0], count), np.float32)
    other = part_to_bytes(Activations(np.arange(*share.samples), values), share, 2, REPORT)
    files.data["1"] = other

    with sizes(parts.BLOCK_BYTES):
        assert refused(files).startswith("memory:1")


@pytest.mark.parametrize("first_bytes", [0, 10_000])
def test_a_damaged_block_is_refused_wherever_it_is(first_bytes: int) -> None:
    for where in (0, -1):
        with sizes(72, first_bytes):
            files = written()
            data = bytearray(files.data["0"])
            begin = 8 + int.from_bytes(data[:8], "little")
            data[begin if where == 0 else -1] ^= 1
            files.data["0"] = bytes(data)
            told = refused(files)
        named = "samples 0 to 3" if where == 0 else "samples 28 to 29"
        assert told == f"memory:0, {named} of the run: damaged, its checksum differs: run it again"


@pytest.mark.parametrize("first_bytes", [0, 10_000])
def test_a_part_that_ends_too_early_is_refused(first_bytes: int) -> None:
    with sizes(72, first_bytes):
        files = written()
        files.data["0"] = files.data["0"][:-3]
        assert "cut short" in refused(files)


def test_a_block_that_only_claims_to_be_one_is_refused() -> None:
    share, index = SHARES[1], PartIndex()
    index.add(b"junk")
    files = written()
    files.data["1"] = index.head(share, 2, REPORT) + b"junk"

    assert refused(files).startswith("memory:1, samples 0 to 29 of the run: these bytes are no activations")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        b"\xff" * 50,
        b"\x08\0\0\0\0\0\0\0{}      ",
        b"\x08\0\0\0\0\0\0\0[1]     ",
        b"\x10\0\0\0\0\0\0\0{}",
        save({"0": np.zeros(3, np.uint8)}, {"report": "{}"}),
        save({"0": np.zeros(3, np.uint8)}, {"report": "{}", "crc32": "[0]"}),
    ],
)
def test_what_is_no_part_is_refused(data: bytes) -> None:
    files = written()
    files.data["1"] = data

    assert refused(files).startswith("memory:1 is no")


def test_a_head_that_claims_a_huge_block_is_refused_before_it_is_read() -> None:
    share, index = SHARES[1], PartIndex([1 << 40], [0])
    files = written()
    files.data["1"] = index.head(share, 2, REPORT)

    assert refused(files) == "memory:1 has blocks where, or of a size that, none can be"


def numbers_file(numbers: list[int]) -> bytes:
    return save({"numbers": np.array(numbers, np.uint32)})


def test_a_dealing_is_read_as_the_seam_says() -> None:
    dealing = parse_dealing(numbers_file([1, 4, 0, 2, 3]), 5, [(0, 2), (2, 5), (2, 5), (0, 0)], "dealt")

    assert dealing.samples(np.array([0, 3])).tolist() == [1, 2]
    assert dealing.positions((2, 5), (1, 4)) == (3, 5)
    assert dealing.positions((0, 2), (2, 4)) == (1, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"junk",
        save({"others": np.zeros(5, np.uint32)}),
        numbers_file([0, 1, 2, 3]),
        numbers_file([0, 1, 2, 3, 9]),
        numbers_file([0, 1, 1, 2, 3]),
        numbers_file([1, 0, 2, 3, 4]),
    ],
)
def test_what_does_not_deal_every_sample_once_and_in_order_is_refused(data: bytes) -> None:
    with pytest.raises(RunError, match=r"^dealt (is no dealing|does not deal)"):
        parse_dealing(data, 5, [(0, 2), (2, 5)], "dealt")


def block(values: list[list[float]], first: int = 0) -> SampleBlock:
    dense = np.array(values, np.float32)
    return SampleBlock((first, first + len(dense)), dense.any(axis=1), dense)


def test_predictions_name_every_sample_in_the_inputs_counting() -> None:
    lines = prediction_lines(block([[0, 0, 0], [0.1, 3.5, 3.5], [0, 0, 0]], first=4), 1).decode()

    assert lines.splitlines() == ["5,0,0.0,0", "6,1,3.5,3", "7,0,0.0,0"]


def test_a_sample_that_some_worker_has_may_still_be_zero_or_below() -> None:
    everyone = np.ones(2, bool)
    values = np.array([[0, 0, 0], [-2, -1, -3]], np.float32)
    given = SampleBlock((0, 2), everyone, values)

    assert prediction_lines(given, 0) == b"0,0,0.0,0\n1,1,-1.0,3\n"
    assert categories(given) == 1


def test_scores_are_written_so_that_they_read_back_the_same() -> None:
    score = np.float32(0.1) * np.float32(3)
    line = prediction_lines(block([[float(score)]]), 0).decode()

    assert np.float32(line.split(",")[2]) == score


def test_activations_are_samples_by_outputs() -> None:
    values = np.array([[0, 0], [2, 3]], np.float32)

    assert load(activations_head(2, 2) + values.tobytes())["activations"].tolist() == values.tolist()


def test_merging_takes_a_fraction_of_the_output() -> None:
    """An output of 36 MiB in blocks of 1 MiB, through a few MiB of memory."""
    workers, rows, samples = 4, 4096, 2304
    shares = [
        Share((start, start + rows // workers), (0, samples)) for start in range(0, rows, rows // workers)
    ]
    files = MemoryFiles()
    with sizes(MIB, first_bytes=MIB, ahead_bytes=2 * MIB):
        for worker, share in enumerate(shares):
            index, pieces = PartIndex(), []
            for number, (start, stop) in enumerate(block_bounds(share, workers)):
                values = random_block(worker, number, rows // workers, stop - start)
                pieces.append(encode(Activations(np.arange(start, stop), values), (start, stop)))
                index.add(pieces[-1])
            files.data[str(worker)] = b"".join([index.head(share, workers, REPORT), *pieces])
        order = np.random.default_rng(1).permutation(rows)
        length = step_samples(rows)
        tracemalloc.start()
        try:
            with PartStream(files, str, shares, Dealing()) as stream:
                for step in sample_blocks(stream, shares, Dealing(), samples, order, softmaxed=False):
                    number = step.samples[0] // length
                    if number % 8 == 0:
                        blocks = [random_block(w, number, rows // workers, length) for w in range(workers)]
                        expected = np.empty((length, rows), np.float32)
                        expected[:, order] = np.concatenate(blocks).T
                        assert step.values.tobytes() == expected.tobytes()
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert sum(map(len, files.data.values())) > 25 * MIB
    assert length == 64
    assert stream.most_ahead_bytes <= 2 * MIB
    assert peak_bytes < 16 * MIB


def random_block(worker: int, number: int, rows: int, samples: int) -> NDArray[np.float32]:
    return np.random.default_rng([worker, number]).random((rows, samples), np.float32) + np.float32(1)
