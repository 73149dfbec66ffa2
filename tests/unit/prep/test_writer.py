from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import model_prep.writer
from lamella.cut import read_cut
from lamella.errors import ModelError, PlanError
from lamella.files import Directory
from lamella.manifest import read_manifest
from lamella.plan import LayerPart
from lamella.tiles import read_tiles
from lamella.verify import verify_files
from model_prep.radixnet import RadixNet
from model_prep.readers import open_source
from model_prep.source import Source, SourceLayer
from model_prep.writer import write_model
from tests.unit.prep.sources import dense_source, random_source
from tests.unit.prep.stored import PreparedModel

NET = RadixNet(64, 5).source()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def failing(source: Source, at: int) -> Source:
    def read(k: int) -> SourceLayer:
        if k == at:
            raise ModelError("broken")
        return source.read(k)

    return Source(source.description, source.features, source.layers, read)


class TestFiles:
    def test_the_same_source_gives_the_same_bytes(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write_model(random_source((20, 30, 25)), tmp_path / name, workers=[3])
        assert contents(tmp_path / "a") == contents(tmp_path / "b")

    def test_every_file_is_in_the_manifest_and_nothing_else_is_there(self, tmp_path: Path) -> None:
        write_model(NET, tmp_path / "m")
        assert set(contents(tmp_path / "m")) == {
            "manifest.json",
            *PreparedModel(tmp_path / "m").manifest.files,
        }
        assert [p.name for p in tmp_path.iterdir()] == ["m"]

    def test_files_are_safetensors_where_the_manifest_says(self, tmp_path: Path) -> None:
        write_model(random_source((300, 280, 260)), tmp_path / "m")
        model = PreparedModel(tmp_path / "m")
        tensors = load_file(tmp_path / "m" / "weights-00000.safetensors")
        assert set(tensors) == {"tiles", "layers.0.order", "layers.1.order"}
        tiles = [data for k in range(2) for _, _, data in model.tiles(k)]
        assert sum(map(len, tiles)) == len(tensors["tiles"])
        assert all(data in tensors["tiles"].tobytes() for data in tiles)
        for k, layer in enumerate(model.manifest.layers):
            assert layer.order is not None
            np.testing.assert_array_equal(model.array(layer.order), tensors[f"layers.{k}.order"])

    def test_the_official_network_takes_two_bytes_a_weight(self, tmp_path: Path) -> None:
        report = write_model(RadixNet(1024, 6).source(), tmp_path / "m")
        layer = PreparedModel(tmp_path / "m").manifest.layers[3]
        assert (layer.values, layer.row_nnz, layer.indices) == (0.0625, 32, "U16")
        assert report.weights == 6 * 32768
        assert (tmp_path / "m" / "weights-00000.safetensors").stat().st_size < 2.1 * report.weights

    def test_layers_fill_files_up_to_a_size(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(model_prep.writer, "FILE_BYTES", 7000)
        write_model(NET, tmp_path / "m")
        model = PreparedModel(tmp_path / "m")
        used = [layer.file for layer in model.manifest.layers]
        assert used == [f"weights-{i:05}.safetensors" for i in (0, 0, 0, 1, 1)]
        for layer, read in zip(NET, model.layers(), strict=True):
            np.testing.assert_array_equal(layer.weight.toarray(), read.weight.toarray())

    @pytest.mark.parametrize("workers", [2, 3, 8, 64])
    def test_what_a_worker_owns_of_a_file_is_one_range(self, tmp_path: Path, workers: int) -> None:
        write_model(random_source((300, 280, 260, 270)), tmp_path / "m", workers=[3])
        files = Directory(tmp_path / "m")
        manifest = read_manifest(files)
        tiles, cut = read_tiles(files, manifest), read_cut(files, manifest, workers)
        for worker in range(workers):
            spans: list[tuple[int, int]] = []
            for k in range(len(manifest.layers)):
                part = LayerPart(k, cut.rows(k, worker), cut.entries(k, worker), cut.digest(k, worker))
                found = tiles.of(part, "here")
                spans += zip(found.begins, found.ends, strict=True)
            spans.sort()
            assert all(before[1] == after[0] for before, after in pairwise(spans))


class TestZeros:
    @pytest.mark.parametrize(
        ("behaviour", "expected"),
        [
            ({}, True),
            ({"bias": -0.3}, True),
            ({"bias": 0.3}, False),
            ({"bias": 0.3, "bias_on": "nonzero"}, True),
            ({"bias": -0.3, "activation": "identity"}, False),
            ({"bias": -0.3, "activation": "identity", "bias_on": "nonzero"}, True),
            ({"bias": [-1, 0]}, True),
            ({"bias": [-1, 1e-30]}, False),
            ({"lo": 0.5}, False),
            ({"lo": -0.5}, True),
            ({"hi": -0.5}, False),
            ({"bias": 5, "hi": 0}, True),
            ({"bias": -5, "activation": "identity", "lo": 0}, True),
        ],
    )
    def test_layers_that_map_zeros_to_zeros(
        self, tmp_path: Path, behaviour: dict[str, Any], expected: bool
    ) -> None:
        write_model(dense_source([[1, 2], [3, 4]], **behaviour), tmp_path / "m")
        assert PreparedModel(tmp_path / "m").manifest.layers[0].zeros_to_zeros is expected


class TestCutsMade:
    def test_powers_of_two_as_far_as_the_rows_go(self, tmp_path: Path) -> None:
        for rows, expected in ((11, [2, 4, 8]), (8, [2, 4, 8]), (7, [2, 4])):
            write_model(random_source((50, 40, rows)), tmp_path / "m")
            assert sorted(PreparedModel(tmp_path / "m").manifest.cuts) == expected

    def test_up_to_64(self, tmp_path: Path) -> None:
        write_model(RadixNet(256, 2).source(), tmp_path / "m")
        assert sorted(PreparedModel(tmp_path / "m").manifest.cuts) == [2, 4, 8, 16, 32, 64]

    def test_and_those_named(self, tmp_path: Path) -> None:
        report = write_model(random_source((50, 40, 11)), tmp_path / "m", workers=[20, 3, 4])
        assert sorted(PreparedModel(tmp_path / "m").manifest.cuts) == [2, 3, 4, 8, 20]
        assert [cut.workers for cut in report.cuts] == [2, 3, 4, 8, 20]

    def test_a_model_of_one_row_has_none(self, tmp_path: Path) -> None:
        write_model(dense_source([[1, 2]]), tmp_path / "m")
        assert PreparedModel(tmp_path / "m").manifest.cuts == {}

    @pytest.mark.parametrize(
        ("workers", "expected"), [(0, "2 or more"), (1, "2 or more"), (65, "has 64 rows")]
    )
    def test_numbers_that_can_not_be(self, tmp_path: Path, workers: int, expected: str) -> None:
        with pytest.raises(PlanError, match=expected):
            write_model(NET, tmp_path / "m", workers=[workers])
        assert not list(tmp_path.iterdir())

    def test_unknown_partitioner(self, tmp_path: Path) -> None:
        with pytest.raises(PlanError, match="did you mean blocks"):
            write_model(NET, tmp_path / "m", partitioner="block")


class TestReport:
    def test_figures(self, tmp_path: Path) -> None:
        report = write_model(RadixNet(1024, 12).source(), tmp_path / "m")
        assert (report.layers, report.features, report.outputs) == (12, 1024, 1024)
        assert report.weights == 12 * 32768
        assert report.bytes == sum(len(data) for data in contents(tmp_path / "m").values())
        cut = next(cut for cut in report.cuts if cut.workers == 8)
        links = PreparedModel(tmp_path / "m").cut(8).halo
        sent = [(s, w, len(r)) for (k, w), links_of in links.items() if k for s, r in links_of]
        assert cut.halo_rows == sum(rows for _, _, rows in sent)
        assert cut.pairs == len(sent)
        assert cut.largest_share == 1
        blocks = write_model(RadixNet(1024, 12).source(), tmp_path / "b", partitioner="blocks").cuts[2]
        assert blocks.saved == 0
        assert cut.saved == pytest.approx(1 - cut.halo_rows / blocks.halo_rows)

    def test_progress_counts_layers(self, tmp_path: Path) -> None:
        seen: list[tuple[int, int]] = []
        write_model(NET, tmp_path / "m", progress=lambda done, total: seen.append((done, total)))
        assert seen == [(k, 5) for k in range(1, 6)]


class TestWhereItGoes:
    def test_parents_are_made(self, tmp_path: Path) -> None:
        write_model(NET, tmp_path / "a" / "b")
        assert verify_files(tmp_path / "a" / "b").features == 64

    def test_a_prepared_model_is_replaced(self, tmp_path: Path) -> None:
        write_model(random_source((9, 8, 7)), tmp_path / "m", workers=[3])
        write_model(NET, tmp_path / "m")
        write_model(NET, tmp_path / "fresh")
        assert contents(tmp_path / "m") == contents(tmp_path / "fresh")

    def test_an_empty_folder_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / "m").mkdir()
        write_model(NET, tmp_path / "m")
        assert verify_files(tmp_path / "m").features == 64

    @pytest.mark.parametrize("name", ["data.csv", "manifest.json"])
    def test_anything_else_is_left_alone(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("{}")
        with pytest.raises(ModelError, match="not empty and not a prepared model"):
            write_model(failing(NET, 0), tmp_path)
        assert contents(tmp_path) == {name: b"{}"}

    def test_a_file_put_into_a_prepared_model_is_not_lost(self, tmp_path: Path) -> None:
        write_model(NET, tmp_path / "m")
        (tmp_path / "m" / "notes.txt").write_text("mine")
        before = contents(tmp_path / "m")
        with pytest.raises(ModelError, match=r"holds notes\.txt"):
            write_model(RadixNet(64, 2).source(), tmp_path / "m")
        assert contents(tmp_path / "m") == before

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "m").write_text("x")
        with pytest.raises(ModelError, match="is a file"):
            write_model(NET, tmp_path / "m")

    def test_a_failure_leaves_what_was_there(self, tmp_path: Path) -> None:
        write_model(NET, tmp_path / "m")
        before = contents(tmp_path)
        with pytest.raises(ModelError, match="broken"):
            write_model(failing(NET, 3), tmp_path / "m")
        assert contents(tmp_path) == before

    def test_a_failure_of_the_last_step_does_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_model(NET, tmp_path / "m")
        before = contents(tmp_path)
        rename = Path.rename

        def full(path: Path, target: Path) -> Path:
            if path.name.startswith(".m.") and target.name == "m" and not path.name.endswith(".old"):
                raise OSError(28, "No space left on device")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", full)
        with pytest.raises(ModelError, match=r"can't write to .*m: No space left on device"):
            write_model(RadixNet(64, 2).source(), tmp_path / "m")
        assert contents(tmp_path) == before

    def test_a_link_to_a_folder_stays_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        for _ in range(2):
            write_model(NET, tmp_path / "link")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
        assert verify_files(tmp_path / "real").features == 64

    def test_a_failure_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="broken"):
            write_model(failing(NET, 3), tmp_path / "m")
        assert not list(tmp_path.iterdir())


class TestVerify:
    def test_whole_models_pass(self, tmp_path: Path) -> None:
        write_model(NET, tmp_path / "m")
        assert verify_files(tmp_path / "m").source == "radixnet:64x5"

    @pytest.mark.parametrize("name", ["weights-00000.safetensors", "cuts/2.safetensors"])
    def test_a_changed_bit_is_found(self, tmp_path: Path, name: str) -> None:
        write_model(NET, tmp_path / "m")
        path = tmp_path / "m" / name
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(ModelError, match=f"{name} has other bytes"):
            verify_files(tmp_path / "m")

    def test_a_short_file_is_found(self, tmp_path: Path) -> None:
        write_model(NET, tmp_path / "m")
        path = tmp_path / "m" / "cuts" / "4.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ModelError, match=r"4\.safetensors has .* bytes instead of"):
            verify_files(tmp_path / "m")

    def test_a_missing_file_is_found(self, tmp_path: Path) -> None:
        write_model(NET, tmp_path / "m")
        (tmp_path / "m" / "weights-00000.safetensors").unlink()
        with pytest.raises(ModelError, match=r"weights-00000\.safetensors is missing"):
            verify_files(tmp_path / "m")

    def test_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="is not a prepared model"):
            verify_files(tmp_path)


def test_a_folder_of_official_files_is_stored_as_the_generated_network(tmp_path: Path) -> None:
    RadixNet(1024, 3).write_tsv(tmp_path / "neuron1024")
    write_model(open_source(str(tmp_path / "neuron1024")), tmp_path / "read")
    write_model(RadixNet(1024, 3).source(), tmp_path / "made")
    read, made = contents(tmp_path / "read"), contents(tmp_path / "made")
    assert {name for name in made if read[name] != made[name]} == {"manifest.json"}
