"""Dense layers: what is stored with its zeros, how, and cut into what."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy import sparse

from lamella.errors import ModelError
from lamella.files import Directory
from lamella.manifest import Layer, parse_manifest, read_manifest
from lamella.memory import memory_need_bytes
from lamella.numbers import BFLOAT16, as_bfloat16, as_float32
from lamella.plan import Plan
from lamella.strategies import tasks_of
from lamella.streaming import WeightStream
from lamella.tiles import read_tiles
from model_prep.dense import DenseWeight, band_of, banded, narrowed
from model_prep.partition.cutting import part_bounds
from model_prep.readers import open_source
from model_prep.source import Source, source_layer
from model_prep.writer import maps_zeros_to_zeros, write_model
from tests.unit.prep.sources import source_of
from tests.unit.prep.stored import PreparedModel


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def stored_layer(folder: Path, *layers: Any) -> Layer:
    write_model(source_of(*layers), folder)
    return read_manifest(Directory(folder)).layers[-1]


def write_bfloat16(path: Path, tensors: dict[str, NDArray[np.float32]]) -> None:
    """As PyTorch would; safetensors' numpy side can't."""
    header: dict[str, Any] = {}
    data = b""
    for name, values in tensors.items():
        half = as_bfloat16(values).tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": values.shape,
            "data_offsets": [len(data), len(data) + len(half)],
        }
        data += half
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


class TestWhatIsStoredDense:
    def test_a_matrix_given_whole_that_is_at_least_half_full(self) -> None:
        weight = np.zeros((4, 4), np.float32)
        weight[:2] = 1
        assert isinstance(source_layer("w", weight).weight, DenseWeight)
        weight[0, 0] = -0.0
        assert not isinstance(source_layer("w", weight).weight, DenseWeight)

    def test_what_is_given_as_sparse_stays_sparse(self) -> None:
        assert not isinstance(source_layer("w", sparse.csr_array(np.ones((4, 4)))).weight, DenseWeight)

    @pytest.mark.parametrize(
        ("weight", "dtype"),
        [
            (random(600, 30), "F32"),
            (random(600, 30).astype(np.float16), "F16"),
            (as_bfloat16(random(600, 30)), "BF16"),
            # Given in more bits than they need.
            (random(600, 30).astype(np.float16).astype(np.float64), "F16"),
            (as_float32(as_bfloat16(random(600, 30))), "BF16"),
            (np.random.default_rng(0).integers(1, 100, (600, 30)), "BF16"),
            # A float16 that bfloat16 would hold is left as it is, and the other way round.
            (np.ones((600, 30), np.float16), "F16"),
            (as_bfloat16(np.ones((600, 30), np.float32)), "BF16"),
        ],
    )
    def test_in_the_narrowest_type_that_is_exact(self, tmp_path: Path, weight: Any, dtype: str) -> None:
        layer = stored_layer(tmp_path / "m", source_layer("w", weight))
        assert layer.values == dtype
        back = PreparedModel(tmp_path / "m").layers()[0].weight.toarray()
        assert back.tobytes() == as_float32(np.asarray(weight)).tobytes()

    def test_zeros_are_kept_as_weights(self, tmp_path: Path) -> None:
        weight = random(10, 20)
        weight[::3, 1::3] = 0
        layer = stored_layer(tmp_path / "m", source_layer("w", weight))
        assert (layer.nnz, layer.row_nnz, layer.indices) == (200, 20, None)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
    def test_a_weight_that_is_no_number_is_named(self, value: float) -> None:
        weight = np.ones((3, 4))
        weight[1, 2] = value
        with pytest.raises(ModelError, match=re.escape(f"w: the weight of output 2, input 3 is {value}")):
            source_layer("w", weight)

    def test_bfloat16_infinity_is_found(self) -> None:
        with pytest.raises(ModelError, match="output 1, input 1 "):
            source_layer("w", as_bfloat16(np.array([[np.inf, 1]], np.float32)))


class TestBands:
    def test_columns_of_a_band_lie_one_after_the_other(self) -> None:
        weight = np.arange(15).reshape(5, 3)
        assert banded(weight, 2).tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11, 12, 13, 14]
        assert banded(weight, 1).tolist() == list(range(15))

    def test_layers_of_few_rows_can_be_cut_anywhere(self) -> None:
        assert (band_of(10), band_of(511), band_of(512)) == (1, 1, 8)

    def test_cuts_are_between_bands(self) -> None:
        starts = np.arange(21) * 7
        assert part_bounds(starts, 2, 8).tolist() == [0, 8, 20]
        assert part_bounds(starts, 4, 8).tolist()[-1] == 20

    def test_a_cut_through_a_band_is_refused(self, tmp_path: Path) -> None:
        write_model(source_of(source_layer("w", random(512, 8))), tmp_path / "m", workers=[2])
        model = PreparedModel(tmp_path / "m")
        text = json.loads((tmp_path / "m" / "manifest.json").read_bytes())
        text["layers"][0]["dense"]["band"] = 60
        (tmp_path / "m" / "manifest.json").write_text(json.dumps(text))
        with pytest.raises(ModelError, match="does not fit its manifest"):
            model.cut(2)

    def test_narrowing_is_exact_or_nothing(self) -> None:
        assert narrowed(np.array([[0.1]], np.float32)).dtype == np.float32
        assert narrowed(np.array([[-0.0, 2.0**-24]], np.float32)).dtype == BFLOAT16
        assert narrowed(np.array([[2.0**-24 * 1023]], np.float32)).dtype == np.float16


class TestCuts:
    def source(self) -> Source:
        return source_of(
            source_layer("a", sparse.csr_array(random(600, 40) * (random(600, 40, seed=1) > 1))),
            source_layer("b", random(520, 600), bias=random(520)),
            source_layer("c", random(12, 520)),
        )

    def test_every_worker_receives_every_row(self, tmp_path: Path) -> None:
        write_model(self.source(), tmp_path / "m", workers=[3])
        model = PreparedModel(tmp_path / "m")
        cut = model.cut(3)
        for k, width in ((1, 600), (2, 520)):
            for worker in range(3):
                own = np.arange(*cut.rows(k - 1, worker))
                received = [numbers for _, numbers in cut.halo[k, worker]]
                assert sorted(np.concatenate([own, *received])) == list(range(width))
        assert (cut.row_bounds[1] % 8 == 0).all()

    def test_parts_have_the_hashes_of_their_bytes(self, tmp_path: Path) -> None:
        write_model(self.source(), tmp_path / "m", workers=[3])
        model = PreparedModel(tmp_path / "m")
        cut = model.cut(3)
        for k, layer in enumerate(model.manifest.layers):
            assert model.digest(k, (0, layer.rows)) == layer.sha256
            for worker in range(3):
                assert model.digest(k, cut.rows(k, worker)) == cut.digest(k, worker)

    def test_changed_positions_are_found(self, tmp_path: Path) -> None:
        write_model(self.source(), tmp_path / "m")
        files = Directory(tmp_path / "m")
        manifest = read_manifest(files)
        dense = manifest.layers[1].dense
        assert dense is not None
        assert dense.positions is not None
        path = tmp_path / "m" / dense.positions.file
        data = bytearray(path.read_bytes())
        data[dense.positions.offset] ^= 1
        path.write_bytes(data)
        (task,) = tasks_of(manifest, None, Plan("serial", "none", 1, 1024, 1))
        with WeightStream(files, manifest, read_tiles(files, manifest), task.parts) as weights:
            next(weights)
            with pytest.raises(ModelError, match=r"positions of a layer in .*sha256 differs"):
                next(weights)

    def test_a_layer_is_used_as_it_is_read_not_in_another_form(self, tmp_path: Path) -> None:
        write_model(source_of(source_layer("w", random(4096, 1024))), tmp_path / "m", workers=[2])
        write_model(
            source_of(source_layer("w", sparse.csr_array(random(4096, 1024)))), tmp_path / "s", workers=[2]
        )
        needs = []
        for name in ("m", "s"):
            model = PreparedModel(tmp_path / name)
            tasks = tasks_of(model.manifest, model.cut(2), Plan("rows", "sns", 2, 1024, 1))
            needs.append(memory_need_bytes(tasks, model.manifest))
        assert needs[0] < needs[1]


class TestReaders:
    def test_float16_files(self, tmp_path: Path) -> None:
        weight = random(3, 4).astype(np.float16)
        np.save(tmp_path / "w.npy", weight)
        read = open_source(str(tmp_path / "w.npy")).layer(0).weight
        assert isinstance(read, DenseWeight)
        assert read.values.dtype == np.float16
        assert np.array_equal(read.values, weight)

    def test_bfloat16_tensors(self, tmp_path: Path) -> None:
        weight, bias = random(3, 4), random(3)
        write_bfloat16(tmp_path / "m.safetensors", {"layers.0.weight": weight, "layers.0.bias": bias})
        layer = open_source(str(tmp_path / "m.safetensors")).layer(0)
        assert isinstance(layer.weight, DenseWeight)
        assert layer.weight.values.dtype == BFLOAT16
        assert layer.weight.values.tobytes() == as_bfloat16(weight).tobytes()
        assert np.array_equal(layer.bias, as_float32(as_bfloat16(bias)))

    def test_activations_of_a_description(self, tmp_path: Path) -> None:
        layers = [
            {"weight": "w", "activation": "leaky_relu", "slope": 0.25},
            {"weight": "w", "activation": "leaky_relu"},
            {"weight": "w", "activation": "clip", "lo": -1, "hi": 6},
            {"weight": "w", "activation": "gelu"},
            {"weight": "w", "activation": "gelu_tanh"},
            {"weight": "w", "activation": "sigmoid"},
            {"weight": "w", "activation": "tanh", "hi": 0.5},
            {"weight": "w", "activation": "softmax"},
        ]
        save_file({"w": random(4, 4)}, tmp_path / "model.safetensors")
        (tmp_path / "model.json").write_text(json.dumps({"layers": layers}))
        read = list(open_source(str(tmp_path)))
        assert [layer.activation for layer in read] == [
            "leaky_relu",
            "leaky_relu",
            "identity",
            "gelu",
            "gelu_tanh",
            "sigmoid",
            "tanh",
            "softmax",
        ]
        assert [layer.slope for layer in read[:2]] == [0.25, float(np.float32(0.01))]
        assert (read[2].lo, read[2].hi, read[6].hi) == (-1, 6, 0.5)
        write_model(open_source(str(tmp_path)), tmp_path / "m")
        stored = read_manifest(Directory(tmp_path / "m")).layers
        assert [layer.activation for layer in stored] == [layer.activation for layer in read]
        assert stored[0].slope == 0.25


class TestRefusals:
    def test_softmax_before_the_last_layer(self, tmp_path: Path) -> None:
        layers = [source_layer(f"w{k}", random(3, 3), activation="softmax") for k in range(2)]
        with pytest.raises(ModelError, match="w0: layer 0 has softmax, which only the last layer can"):
            write_model(source_of(*layers), tmp_path / "m")

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"activation": "softmax", "hi": 1}, "softmax gives probabilities, which need no lo and hi"),
            ({"activation": "clip"}, "activation clip has no bounds: give lo, hi or both"),
            ({"activation": "relu", "slope": 0.1}, "activation relu has no slope"),
            ({"activation": "leaky_relu", "slope": float("nan")}, "slope is nan: give a finite number"),
            ({"activation": "swish"}, "activation 'swish' is not supported: use one of identity, relu, "),
        ],
    )
    def test_what_contradicts_itself(self, fields: dict[str, Any], expected: str) -> None:
        with pytest.raises(ModelError, match=expected):
            source_layer("w", random(3, 3), **fields)

    def test_options_are_checked_alike(self, tmp_path: Path) -> None:
        np.save(tmp_path / "w.npy", random(3, 3))
        with pytest.raises(ModelError, match="softmax gives probabilities"):
            open_source(str(tmp_path / "w.npy"), activation="softmax", hi=1).layer(0)

    def edited(self, folder: Path, **fields: Any) -> bytes:
        write_model(source_of(*(source_layer(f"w{k}", random(3, 3)) for k in range(2))), folder / "m")
        text = json.loads((folder / "m" / "manifest.json").read_bytes())
        text["layers"][0] |= fields
        return json.dumps(text).encode()

    def test_a_manifest_of_an_older_version(self, tmp_path: Path) -> None:
        text = json.loads(self.edited(tmp_path)) | {"version": 1}
        with pytest.raises(ModelError, match="has format version 1, this Lamella reads 3: prep again"):
            parse_manifest(json.dumps(text).encode(), "m")

    def test_a_manifest_whose_layer_is_neither(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="layer 0 is neither sparse nor dense"):
            parse_manifest(self.edited(tmp_path, dense=None), "m")
        with pytest.raises(ModelError, match="layer 0 is neither sparse nor dense"):
            parse_manifest(self.edited(tmp_path, values=0.5), "m")

    def test_a_manifest_with_softmax_in_between(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="layer 0 has softmax, which only the last one can"):
            parse_manifest(self.edited(tmp_path, activation="softmax"), "m")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"activation": "leaky_relu"}, True),
        ({"activation": "tanh"}, True),
        ({"activation": "gelu"}, True),
        ({"activation": "gelu_tanh"}, True),
        ({"activation": "sigmoid"}, False),
        ({"activation": "sigmoid", "hi": 0}, True),
        ({"activation": "softmax"}, True),
        ({"activation": "softmax", "bias": 1}, False),
        ({"activation": "tanh", "bias": -1}, False),
        ({"activation": "gelu", "bias": -1}, False),
        ({"activation": "gelu", "bias": -100}, True),  # all of it rounds to zero
        ({"activation": "leaky_relu", "slope": 0, "bias": -1}, True),
        ({"activation": "tanh", "bias": 1, "bias_on": "nonzero"}, True),
    ],
)
def test_dead_samples_stay_dead_only_where_zeros_stay_zeros(fields: dict[str, Any], expected: bool) -> None:
    assert maps_zeros_to_zeros(source_layer("w", random(3, 3), **fields)) is expected
