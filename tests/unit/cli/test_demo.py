from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.sparse import csr_array

from workflows.cli import demo
from workflows.cli.demo import Samples


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> Samples:
    """Some samples for a shallow network."""
    monkeypatch.setattr(demo, "NETWORK", "radixnet:1024x2")
    matrix = csr_array((np.random.default_rng(1).random((40, 1024)) < 0.1).astype(np.float32))
    return Samples("some", Path("unused"), matrix, None)


@pytest.fixture
def expected(samples: Samples) -> NDArray[np.float32]:
    from model_prep.readers import open_source
    from model_prep.reference import plain_scipy

    return plain_scipy(open_source(demo.NETWORK), samples.matrix)


def verdict(activations: NDArray[np.float32], samples: Samples, folder: Path) -> demo.Verdict:
    path = folder / "activations.safetensors"
    # safetensors writes memory as it lies.
    save_file({"activations": np.ascontiguousarray(activations)}, path)
    return demo._verdict(path, samples)


def test_the_same_bits_are_exact(samples: Samples, expected: NDArray[np.float32], tmp_path: Path) -> None:
    found = verdict(expected, samples, tmp_path)
    assert (found.exact, found.different, found.official) == (True, 0, None)
    assert 0 < found.categories <= 40
    assert sorted(found.live) == [1, 2]
    assert found.live[2] == found.categories


def test_one_bit_is_not(samples: Samples, expected: NDArray[np.float32], tmp_path: Path) -> None:
    changed = expected.copy()
    changed.view(np.uint32)[7, 9] ^= 1
    found = verdict(changed, samples, tmp_path)
    assert (found.exact, found.different) == (False, 1)


def test_the_sign_of_a_zero_counts(samples: Samples, expected: NDArray[np.float32], tmp_path: Path) -> None:
    row, column = np.argwhere(expected == 0)[0]
    changed = expected.copy()
    changed[row, column] = -0.0
    assert not verdict(changed, samples, tmp_path).exact


def test_the_official_list_decides_too(
    samples: Samples, expected: NDArray[np.float32], tmp_path: Path
) -> None:
    alive = np.flatnonzero(expected.any(axis=1)) + 1
    right = Samples("official", samples.path, samples.matrix, alive)
    wrong = Samples("official", samples.path, samples.matrix, alive[1:])
    assert verdict(expected, right, tmp_path).official is True
    assert verdict(expected, wrong, tmp_path).official is False
