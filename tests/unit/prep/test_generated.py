"""Networks and inputs made for tests, demo and benchmarks have the properties they are made for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from lamella.errors import BatchError
from model_prep.blobs import digit_blobs, repeat_pixels
from model_prep.readers import open_source
from model_prep.reference import plain_scipy
from tests.unit.prep.sources import dense


class TestBlobs:
    def test_look_like_the_challenge_images(self) -> None:
        images = digit_blobs(1000)
        assert images.shape == (1000, 1024)
        assert images.dtype == np.float32
        assert np.unique(images.data).tolist() == [1.0]
        pixels = np.diff(images.indptr)
        assert 90 < pixels.mean() < 120
        assert pixels.min() > 10

    def test_a_few_stay_alive_in_the_official_network(self) -> None:
        alive = plain_scipy(open_source("radixnet:1024x120"), digit_blobs(1000)).any(axis=1)
        assert 0.02 <= alive.mean() <= 0.08

    def test_seeded(self) -> None:
        first = digit_blobs(300).toarray()
        assert np.array_equal(first[:10], digit_blobs(10).toarray())
        assert not np.array_equal(first[:10], digit_blobs(10, seed=1).toarray())
        assert len(np.unique(first, axis=0)) == 300

    def test_other_sizes(self) -> None:
        assert digit_blobs(3, side=16).shape == (3, 256)
        assert digit_blobs(0).shape == (0, 1024)


class TestRepeatedPixels:
    def test_each_becomes_a_square(self) -> None:
        image = np.arange(1, 5, dtype=np.float32).reshape(1, 4)
        large = repeat_pixels(sparse.csr_array(image), 16).toarray().reshape(4, 4)
        np.testing.assert_array_equal(large, [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])

    def test_the_size_of_larger_networks(self) -> None:
        images = digit_blobs(5)
        large = repeat_pixels(images, 65536)
        assert large.shape == (5, 65536)
        np.testing.assert_array_equal(
            large.toarray().reshape(5, 256, 256)[:, ::8, ::8].reshape(5, -1), images.toarray()
        )

    @pytest.mark.parametrize("neurons", [2048, 1000, 2304])
    def test_sizes_that_do_not_fit(self, neurons: int) -> None:
        with pytest.raises(BatchError, match=f"can't be enlarged to {neurons}"):
            repeat_pixels(digit_blobs(1), neurons)


class TestAlive:
    def test_unstructured(self) -> None:
        layer = open_source("alive:1024x2").layer(1)
        assert 0.095 < layer.weight.nnz / 1024**2 < 0.105
        assert len(np.unique(np.diff(layer.weight.indptr))) > 20
        assert len({row.tobytes() for row in layer.weight.toarray() != 0}) == 1024
        assert isinstance(layer.bias, np.ndarray)
        assert (layer.bias >= 0.5).all()

    def test_seeded(self) -> None:
        first, second = (open_source("alive:64x3") for _ in range(2))
        for a, b in zip(first, second, strict=True):
            assert np.array_equal(dense(a), dense(b))
        assert not np.array_equal(dense(first.layer(1)), dense(first.layer(2)))

    @pytest.mark.parametrize("name", ["alive:256x40", "alive:1024x20"])
    def test_no_sample_dies_or_becomes_another(self, name: str) -> None:
        source = open_source(name)
        batch = sparse.random_array((100, source.features), density=0.1, dtype=np.float32, rng=3).tocsr()
        out = plain_scipy(source, batch)
        assert out.any(axis=1).all()
        assert len(np.unique(out, axis=0)) == 100
        assert 0.3 < (out > 0).mean() < 0.8
        assert (out == 32).mean() < 0.15

    def test_even_without_any_input(self) -> None:
        assert plain_scipy(
            open_source("alive:256x10"), sparse.csr_array(np.zeros((2, 256), np.float32))
        ).any()
