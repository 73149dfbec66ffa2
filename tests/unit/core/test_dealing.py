"""Samples are dealt so that live work is even, and come out as if they had not been."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamella.dealing import Dealing, parse_dealing
from lamella.files import Directory
from lamella.inputs import Batch, sparse
from lamella.inputs.batch import dense_blocks, join
from lamella.manifest import read_manifest
from lamella.strategies.dealing import EVEN_ENOUGH, deal, unevenness
from lamella.strategies.portions import even_ranges
from model_prep.radixnet import RadixNet
from model_prep.reference import live_layers
from model_prep.writer import write_model
from tests.gang import GangPlan, infer, infer_planned
from tests.integration.batches import IMAGES, official_images

counts = st.lists(st.integers(0, 40), min_size=1, max_size=60).map(lambda drawn: np.array(drawn, np.int64))


@given(counts, st.data())
def test_a_dealing_is_one_and_never_less_even(nonzero: NDArray[np.int64], data: st.DataObject) -> None:
    shares = data.draw(st.integers(1, len(nonzero)))
    ranges = even_ranges(len(nonzero), shares)
    before = unevenness(nonzero**2, ranges)
    dealt = deal(nonzero, shares)
    if dealt is None:
        return
    assert before > EVEN_ENOUGH
    assert unevenness(nonzero[dealt] ** 2, ranges) < before
    assert sorted(dealt.tolist()) == list(range(len(nonzero)))
    # Ascending within each share, as Collect has it.
    parsed = parse_dealing(Dealing(dealt).to_bytes(), len(nonzero), ranges, "dealt")
    assert parsed.numbers is not None
    assert parsed.numbers.tolist() == dealt.tolist()


@pytest.mark.parametrize("nonzero", [np.full(100, 7), np.zeros(100, int), np.tile([9, 1], 50)])
def test_what_is_even_stays_as_it_is(nonzero: NDArray[np.int64]) -> None:
    assert deal(nonzero, 5) is None


def test_heavy_samples_side_by_side_are_parted() -> None:
    nonzero = np.array([9] * 4 + [1] * 12)
    dealt = deal(nonzero, 4)
    assert dealt is not None
    assert [(nonzero[dealt[start:stop]] == 9).sum() for start, stop in even_ranges(16, 4)] == [1] * 4


@pytest.mark.skipif(not IMAGES.exists(), reason=f"the official images are not in {IMAGES.parent}")
def test_live_work_of_the_official_images_is_far_more_even_once_dealt() -> None:
    """By the layers that each image really is alive in, which nobody knows when they are dealt."""
    images = official_images()
    work = live_layers(RadixNet(1024, 15).source(), images)
    assert (work == 15).sum() == 337
    work[work == 15] = 120  # those die in no later layer either
    ranges = even_ranges(len(work), 8)
    dealt = deal(np.diff(images.indptr).astype(np.int64), 8)
    assert dealt is not None
    assert unevenness(work, ranges) > 1.4
    assert unevenness(work[dealt], ranges) < 1.15


def batch_of(x: NDArray[np.float32]) -> Batch:
    return join(dense_blocks(x, "x"), len(x), 0, "x")


@pytest.mark.parametrize("at_once", [1, 7, 2**22])
def test_a_batch_is_reordered_in_place(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(sparse, "_BLOCK_ENTRIES", at_once)
    random = np.random.default_rng(4)
    x = random.standard_normal((13, 9)).astype(np.float32)
    x[random.random(x.shape) < 0.6] = 0
    x[:, 3] = 0
    batch = batch_of(x)
    held = batch.matrix.values
    assert batch.nonzero().tolist() == np.count_nonzero(x, axis=1).tolist()
    numbers = random.permutation(13).astype(np.uint32)
    batch.reorder(numbers)
    assert batch.matrix.values is held
    assert batch.matrix.toarray().T.tolist() == x[numbers].tolist()
    assert batch.matrix.columns.tolist() == batch_of(x[numbers]).matrix.columns.tolist()


@pytest.mark.parametrize("plan", [GangPlan("samples", 3, 2), GangPlan("hybrid", 6, 2, 3)], ids=str)
def test_dealt_samples_give_the_serial_bits(tmp_path: Path, plan: GangPlan) -> None:
    write_model(RadixNet(64, 12).source(), tmp_path / "m", workers=[2])
    assert len(read_manifest(Directory(tmp_path / "m")).layers) == 12
    random = np.random.default_rng(6)
    x = (random.random((29, 64)) < np.linspace(0.9, 0, 29)[:, np.newaxis]).astype(np.float32)
    expected = infer(tmp_path / "m", batch_of(x))[0]
    dealt = deal(batch_of(x).nonzero(), 3)
    assert dealt is not None
    assert infer_planned(tmp_path / "m", batch_of(x), plan, Dealing(dealt))[0].tobytes() == expected.tobytes()
    assert expected.any()
