from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lamella.errors import ModelError
from model_prep.radixnet import RadixNet

OFFICIAL = Path(__file__).parents[2] / "data" / "radixnet-1024x120.sha256"


def official_hashes() -> dict[str, str]:
    lines = (line.split() for line in OFFICIAL.read_text().splitlines())
    return {name: digest for digest, name in lines}


def test_every_file_of_the_official_network_comes_out_byte_for_byte() -> None:
    net = RadixNet(1024, 120)
    made = {f"n1024-l{k + 1}.tsv": hashlib.sha256(net.tsv(k)).hexdigest() for k in range(120)}
    assert len(made) == 120
    assert made == official_hashes()


def test_written_folder_is_named_as_the_official_one(tmp_path: Path) -> None:
    RadixNet(1024, 2).write_tsv(tmp_path / "neuron1024")
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "neuron1024").iterdir()
    }
    assert found == {name: official_hashes()[name] for name in ("n1024-l1.tsv", "n1024-l2.tsv")}


def test_layers_hold_what_the_files_hold() -> None:
    net = RadixNet(1024, 8)
    layer = net.layer(7)
    lines = net.tsv(7).decode().splitlines()
    edges = np.array([line.split("\t") for line in lines], float)
    coordinates = layer.weight.tocoo()
    row, column = coordinates.coords
    np.testing.assert_array_equal(edges[:, 0], column + 1)
    np.testing.assert_array_equal(edges[:, 1], row + 1)
    np.testing.assert_array_equal(edges[:, 2], coordinates.data)
    assert layer.bias == float(np.float32(-0.3))
    assert (layer.bias_on, layer.activation, layer.lo, layer.hi) == ("nonzero", "relu", None, 32.0)


@pytest.mark.parametrize(
    ("neurons", "bias"),
    [(32, -0.3), (1024, -0.3), (2048, -0.3), (4096, -0.35), (16384, -0.4), (65536, -0.45)],
)
def test_every_neuron_has_32_inputs_and_32_outputs(neurons: int, bias: float) -> None:
    net = RadixNet(neurons, 15)
    layer = net.layer(14)
    np.testing.assert_array_equal(np.bincount(layer.weight.indices, minlength=neurons), 32)
    np.testing.assert_array_equal(np.diff(layer.weight.indptr), 32)
    assert layer.bias == float(np.float32(bias))


@pytest.mark.parametrize("size", [(1000, 4), (16, 4), (0, 4), (1024, 0), (2**25, 1)])
def test_sizes_without_a_network_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ModelError, match="power of two"):
        RadixNet(*size)
