"""The codec's comparison with the paper's way to write messages."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.codec import figures, shown, walk
from benchmarks.codec_sides import Ours, csr_from_bytes, csr_of, csr_to_bytes, order0_entropy_bytes, sendings
from lamella.activations import Activations
from lamella.codec import Bases
from lamella.inputs import Batch, read_batch
from model_prep.blobs import digit_blobs
from model_prep.readers import open_source
from model_prep.writer import write_model


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    path = tmp_path_factory.mktemp("batch") / "blobs.npy"
    np.save(path, digit_blobs(50).toarray())
    return read_batch(path.read_bytes(), path.name, 1024, 50)


@pytest.fixture(scope="module", params=["radixnet:1024x9", "alive:1024x3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    write_model(open_source(request.param), folder, workers=[4])
    return folder


def test_both_sides_give_every_bit_back(model: Path, batch: Batch) -> None:
    done = walk(model, batch, 4)
    assert done.ours.equal
    assert done.csr_zlib.equal
    assert 0 < done.ours.bytes < done.csr_zlib.bytes < 2 * done.raw_bytes
    assert 0 < done.entropy_bytes < done.raw_bytes
    assert min(done.ours.encode_s, done.csr_zlib.decode_s, done.kernel_s) > 0


def test_a_bit_that_differs_is_told(model: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Bases.decode

    def wrong(
        self: Bases, layer: int, samples: tuple[int, int], peer: int, data: bytes, rows: int
    ) -> Activations:
        block = right(self, layer, samples, peer, data, rows)
        block.values.view(np.uint32)[-1:, -1:] ^= 1
        return block

    monkeypatch.setattr(Bases, "decode", wrong)
    done = walk(model, batch, 4)
    assert not done.ours.equal
    assert done.csr_zlib.equal


def test_messages_are_the_rows_that_the_cut_names(model: Path, batch: Batch) -> None:
    codec = Ours(4)
    for sending in sendings(model, batch, 4, lambda _: None, lambda: 0.0):
        assert [link.peer for link in sending.links] == [peer for peer, _ in sending.messages()]
        assert sending.sender not in [link.peer for link in sending.links]
        came = codec.decode(sending, codec.encode(sending))
        for link, block in zip(sending.links, came, strict=True):
            own = sending.block.values[link.rows - sending.first_row]
            assert block.values.sum() == pytest.approx(own.sum(), rel=1e-5)


def test_csr_is_of_the_whole_batch() -> None:
    block = Activations(np.array([12, 15]), np.array([[0, 2], [0, 0], [3, 4]], np.float32))
    matrix = csr_of(block, (10, 17))
    back = csr_from_bytes(csr_to_bytes(matrix), matrix.shape)
    assert back.toarray().tolist() == [[0, 0, 0, 0, 0, 2, 0], [0] * 7, [0, 0, 3, 0, 0, 4, 0]]


def test_entropy_is_that_of_cells_and_of_who_is_alive() -> None:
    # Four values, all as frequent: two bits each. Half of the samples are alive: one bit each.
    values = np.array([[1, 2, 3, 4], [4, 3, 2, 1]], np.float32)
    assert order0_entropy_bytes(Activations(np.arange(0, 8, 2), values), (0, 8)) == pytest.approx(
        (16 + 8) / 8
    )
    # One value and everyone: nothing is left to say.
    assert order0_entropy_bytes(Activations(np.arange(8), np.full((3, 8), 32, np.float32)), (0, 8)) == 0
    # Dead samples are not cells.
    dead = Activations(np.arange(8), np.repeat(np.array([[32, 0]], np.float32), 4).reshape(1, 8))
    assert order0_entropy_bytes(dead, (0, 8)) == pytest.approx(1)


def test_the_table_sets_entropy_beside_what_is_sent(model: Path, batch: Batch) -> None:
    done = walk(model, batch, 4)
    result = {
        "network": "n", "input": "i", "workers": 4, "messages": 9, "equal": True,
        "raw_bytes": done.raw_bytes, "order0_entropy_bytes": 12_345, "kernel_s": 1.5,
        "ours": figures([done.ours], done.raw_bytes), "csr_zlib": figures([done.csr_zlib], done.raw_bytes),
    }  # fmt: skip
    stream = io.StringIO()
    Console(width=140, file=stream).print(shown(result))
    for text in (f"{done.ours.bytes:,}", f"{done.csr_zlib.bytes:,}", "12,345", "1.50", "all bits equal"):
        assert text in stream.getvalue()
    stream = io.StringIO()
    Console(width=140, file=stream).print(shown(result | {"equal": False}))
    assert "NOT EQUAL" in stream.getvalue()
