"""Prepared models made to harm: false tables, paths that climb out, a billion rows, numbers that wrap."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from lamella.errors import InputError, ModelError
from lamella.files import Directory, checked_path
from lamella.manifest import (
    MOST_MANIFEST_BYTES,
    MOST_PARTS,
    MOST_TABLE_BYTES,
    Manifest,
    parse_manifest,
    read_manifest,
)
from lamella.verify import verify_files
from model_prep.readers import open_source
from tests.hostile.models import (
    make_model,
    open_manifest,
    open_model,
    with_file,
    with_manifest,
    with_tensors,
)
from tests.hostile.outcome import outcome_of
from tests.hostile.readers import read_source

MIB = 1 << 20
Tensors = dict[str, NDArray[Any]]
Json = dict[str, Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "m")


def set_layer(k: int, **values: Any) -> Callable[[Json], None]:
    return lambda manifest: manifest["layers"][k].update(values)


def test_a_model_that_nobody_touched_opens(model: Path) -> None:
    open_model(model)


OUTSIDE = ["../secret", "/etc/passwd", "a/../../b", "..", "a/./b", ".", "..\\b", "a\0b", ""]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("where", ["files", "cuts", "tiles", "layer", "order"])
def test_a_path_that_climbs_out_is_refused(model: Path, where: str, path: str) -> None:
    def change(manifest: Json) -> None:
        if where == "cuts":
            manifest["cuts"]["2"] = path
        elif where == "tiles":
            manifest["tiles"] = path
        elif where == "layer":
            manifest["layers"][0]["file"] = path
        elif where == "order":
            manifest["layers"][0]["order"] = {"file": path, "offset": 0, "dtype": "U8", "length": 16}
        manifest["files"][path] = {"bytes": 1 << 20, "sha256": "0" * 64}

    with_manifest(model, change)
    with pytest.raises(ModelError, match="leaves its folder: use plain relative names") as caught:
        verify_files(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_reader_of_a_folder_leaves_it(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match="leaves its folder"):
        Directory(tmp_path).read(path)
    with pytest.raises(InputError, match="leaves its folder"):
        checked_path(path)


def test_a_link_that_leads_out_is_not_followed(model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    stored = {"bytes": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}
    with_manifest(model, lambda manifest: manifest["files"].update(link=stored))
    (model / "link").symlink_to(secret)
    with pytest.raises(ModelError, match="link leads out of its folder: copy the file itself there"):
        verify_files(model)
    (model / "link").unlink()
    (model / "inside").write_bytes(b"secret")
    (model / "link").symlink_to(model / "inside")
    assert "link" in verify_files(model).files


def test_a_folder_that_is_a_link_leads_out_too(model: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_bytes(b"secret")
    (model / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="leads out of its folder"):
        Directory(model).read("sub/secret")


def test_nor_is_one_that_a_model_json_names(tmp_path: Path) -> None:
    np.save(tmp_path / "secret.npy", np.ones((2, 2), np.float32))
    source = tmp_path / "source"
    source.mkdir()
    (source / "w.npy").symlink_to(tmp_path / "secret.npy")
    (source / "model.json").write_text(json.dumps({"layers": [{"weight": "w.npy"}]}))
    with pytest.raises(ModelError, match="leads out of the model's folder: copy it there"):
        open_source(str(source))


@pytest.mark.parametrize("name", ["cuts/2.safetensors", "tiles.safetensors", "weights-00000.safetensors"])
def test_other_bytes_than_were_prepared_are_refused(model: Path, name: str) -> None:
    data = bytearray((model / name).read_bytes())
    data[-1] ^= 1
    (model / name).write_bytes(data)
    with pytest.raises(ModelError, match="sha256 differs"):
        open_model(model)


BILLION = 1_000_000_000


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (set_layer(0, rows=BILLION), "layers.0.rows: Input should be less than or equal to 16777216"),
        (set_layer(0, columns=BILLION), "layers.0.columns: Input should be less than or equal to 16777216"),
        (set_layer(0, rows=-1), "layers.0.rows"),
        (set_layer(2, rows=2**24, order=None), "layer 2 is larger than its file"),
        (set_layer(0, nnz=2**47), "layer 0 has 140737488355328 weights for 16 rows x 20 columns"),
        (set_layer(0, hi=float("nan")), "layers.0.hi"),
        (set_layer(0, slope=float("inf")), "layers.0.slope"),
        (set_layer(0, bias=1e300), "layers.0.bias"),
        (set_layer(0, lo=3.0, hi=1.0), "clipped to 3.0 at least and 1.0 at most"),
        (set_layer(0, row_nnz="F32"), "layers.0.row_nnz"),
        (set_layer(0, row_nnz="U64"), "layers.0.row_nnz"),
        (set_layer(0, indices="F32"), "layers.0.indices"),
        (set_layer(0, bias="U8"), "layers.0.bias"),
        (set_layer(0, values={"values": []}), "layers.0.values"),
        (set_layer(0, values={"values": [1.0] * 257}), "layers.0.values"),
        (set_layer(0, activation="eval"), "layers.0.activation"),
        (lambda manifest: manifest.update(layers=[]), "layers"),
        (lambda manifest: manifest.update(version="<script>" * 100_000), "has format version <script>"),
        (lambda manifest: manifest["cuts"].update({"x" * 100_000: ""}), "cuts.xxxx"),
    ],
)
def test_a_manifest_of_impossible_numbers_is_refused(
    model: Path, change: Callable[[Json], Any], what: str
) -> None:
    with pytest.raises(ModelError) as caught:
        open_manifest(with_manifest(model, change))
    message = str(caught.value)
    assert what in message
    assert len(message) < 600
    assert message.isprintable()


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"format": "lamella-model", "version": 3, "layers": ' + b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format": "lamella-model", "version": 3, "source": "\xff"}',
        b'{"format": "lamella-model", "version": 1e999}',
        b"9" * 100_000,
        b"\0" * 100,
        b"",
    ],
)
def test_what_only_looks_like_a_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        parse_manifest(data, "here")


def test_a_manifest_of_any_size_takes_bounded_memory(tmp_path: Path) -> None:
    """Stated: at most 40 times its 16 MiB, and what is larger is not read."""
    pieces = b"[]," * (MOST_MANIFEST_BYTES // 3 - 40)
    head = b'{"format": "lamella-model", "version": 3, "layers": ['
    wrong = head + b",".join([b"{}"] * MOST_PARTS) + b"]}"
    cases = {"deep": head + pieces + b"[]]}", "large": b" " * (40 * MOST_MANIFEST_BYTES), "wrong": wrong}
    for name, data in cases.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_bytes(data)
        outcome = outcome_of(open_manifest, tmp_path / name)
        assert "ModelError" in outcome.kinds, outcome.message
        assert outcome.grown_bytes < 40 * MOST_MANIFEST_BYTES, name


def test_a_table_that_is_too_large_is_not_read(model: Path) -> None:
    stored = {"bytes": MOST_TABLE_BYTES + 1, "sha256": "0" * 64}
    with_manifest(model, lambda manifest: manifest["files"].update({"tiles.safetensors": stored}))
    with (model / "tiles.safetensors").open("wb") as file:
        file.truncate(MOST_TABLE_BYTES + 1)
    with pytest.raises(ModelError, match="bytes, more than the 134,217,728 that a function can read of it"):
        open_tables(model, read_manifest(Directory(model)))
    stored["bytes"] = 8
    with_manifest(model, lambda manifest: manifest["files"].update({"tiles.safetensors": stored}))
    with pytest.raises(ModelError, match="has more than 128 MiB"):
        open_tables(model, read_manifest(Directory(model)))


def open_tables(model: Path, manifest: Manifest) -> None:
    from lamella.tiles import read_tiles

    read_tiles(Directory(model), manifest)


def put(name: str, place: Any, value: int, dtype: str = "u8") -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = tensors[name].astype(dtype)
        tensors[name][place] = value

    return change


def made(name: str, array: NDArray[Any]) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({name: array})


WRAPS = 2**64 - 8  # as int64: -8

CUTS: dict[str, Callable[[Tensors], None]] = {
    "bounds that wrap": put("row_bounds", (0, 1), WRAPS),
    "a bound beyond int64's middle": put("row_bounds", (0, 1), 2**63 - 1),
    "bounds that fall": put("row_bounds", (0, 1), 17),
    "entries that wrap": put("entry_bounds", (1, 1), 2**63),
    "lengths that wrap": put("link_lengths", 0, WRAPS),
    "a length without end": put("link_lengths", 0, 2**62),
    "a link to a worker that there is not": put("links", (0, 1), 2),
    "a layer that there is not": put("links", (-1, 0), 3),
    "a row that there is not": put("link_rows", 0, 2**32),
    "a row of another worker": put("link_rows", -1, 0),
    "a link to oneself": put("links", (-1, 2), 1),
    "bounds of one dimension": made("row_bounds", np.zeros(9, np.uint8)),
    "rows of two dimensions": made("link_rows", np.zeros((3, 3), np.uint8)),
    "lengths of two dimensions": made("link_lengths", np.zeros((3, 3), np.uint8)),
    "a number instead of lengths": made("link_lengths", np.uint8(3)[...]),
    "a number instead of links": made("links", np.uint8(3)[...]),
    "floats": made("link_rows", np.full(9, np.nan, np.float32)),
    "nothing": made("links", np.zeros((0, 3), np.uint8)),
    "digests of nothing": made("digests", np.zeros((3, 2, 0), np.uint8)),
}


@pytest.mark.parametrize("what", CUTS)
def test_a_cut_that_leads_anywhere_else_is_refused(model: Path, what: str) -> None:
    with_tensors(model, "cuts/2.safetensors", CUTS[what])
    with pytest.raises(ModelError, match=r"2\.safetensors( does not fit its manifest|: \w+ is no list)"):
        open_model(model)


def test_a_link_that_is_there_twice_is_refused(model: Path) -> None:
    def change(tensors: Tensors) -> None:
        tensors["links"] = np.concatenate([tensors["links"], tensors["links"][-1:]])
        last = int(tensors["link_lengths"][-1])
        tensors["link_lengths"] = np.concatenate([tensors["link_lengths"], tensors["link_lengths"][-1:]])
        tensors["link_rows"] = np.concatenate([tensors["link_rows"], tensors["link_rows"][-last:]])

    with_tensors(model, "cuts/2.safetensors", change)
    with pytest.raises(ModelError, match="does not fit its manifest"):
        open_model(model)


TILES: dict[str, Callable[[Tensors], None]] = {
    "an offset that wraps": put("offsets", 0, WRAPS),
    "an offset beyond the file": put("offsets", -1, 2**47),
    "rows that wrap": put("rows", 0, WRAPS),
    "entries that wrap": put("entries", 0, WRAPS),
    "starts that wrap": put("starts", 1, WRAPS),
    "starts beyond the tiles": put("starts", 1, 2**40),
    "no rows": put("rows", 0, 0),
    "two dimensions": made("rows", np.ones((3, 3), np.uint8)),
    "a number": made("rows", np.uint8(3)[...]),
    "floats": made("offsets", np.ones(9, np.float32)),
}


@pytest.mark.parametrize("what", TILES)
def test_a_table_of_tiles_that_leads_anywhere_else_is_refused(model: Path, what: str) -> None:
    with_tensors(model, "tiles.safetensors", TILES[what])
    with pytest.raises(ModelError, match=r"tiles\.safetensors( does not fit its manifest|: \w+ is no list)"):
        open_model(model)


def tampered_weights(model: Path, change: Callable[[Json, bytearray], None]) -> None:
    """Other weights, and all hashes that workers check made those of them."""
    manifest = json.loads((model / "manifest.json").read_bytes())
    data = bytearray((model / "weights-00000.safetensors").read_bytes())
    change(manifest, data)
    (model / "manifest.json").write_bytes(json.dumps(manifest).encode())
    with_file(model, "weights-00000.safetensors", bytes(data))
    rewrite_digests(model)


def rewrite_digests(model: Path) -> None:
    from lamella.cut import read_cut
    from lamella.plan import LayerPart
    from lamella.tiles import read_tiles

    files = Directory(model)
    manifest = read_manifest(files)
    tiles, cut = read_tiles(files, manifest), read_cut(files, manifest, 2)

    def digests(tensors: Tensors) -> None:
        for k, layer in enumerate(manifest.layers):
            data = (model / layer.file).read_bytes()
            for worker in range(2):
                part = LayerPart(k, cut.rows(k, worker), cut.entries(k, worker), "")
                found = tiles.of(part, "here")
                body = b"".join(data[a:b] for a, b in zip(found.begins, found.ends, strict=True))
                tensors["digests"][k, worker] = np.frombuffer(hashlib.sha256(body).digest(), np.uint8)

    with_tensors(model, "cuts/2.safetensors", digests)


def test_weights_that_the_kernel_would_follow_out_of_its_memory_are_refused(model: Path) -> None:
    """Row counts and indices are what C reads by: both are looked at, though the hash is right."""

    def fill(manifest: Json, data: bytearray) -> None:
        length = int.from_bytes(data[:8], "little")
        tiles = json.loads(data[8 : 8 + length])["tiles"]["data_offsets"]
        data[8 + length + tiles[0] : 8 + length + tiles[1]] = b"\xff" * (tiles[1] - tiles[0])

    tampered_weights(model, fill)
    outcome = outcome_of(open_model, model)
    assert "ModelError" in outcome.kinds, outcome.message
    assert "contradicts its cut" in outcome.message or "rows that there are not" in outcome.message


def test_an_index_beyond_the_layer_before_is_refused_in_both_ways(model: Path) -> None:
    from lamella.weights import StoredPart

    manifest = read_manifest(Directory(model))
    layer = manifest.layers[0]
    for index in (20, 255, -1):
        indices = np.array([index], np.int32)
        part = StoredPart(0, np.array([0, 1]), indices, np.ones(1, np.float32), np.float32(0))
        for position in (None, np.arange(20, dtype=np.int32)):
            with pytest.raises(ModelError, match="layer 0 multiplies rows that there are not"):
                part.for_kernel(layer, position, 20)


def test_a_code_beyond_the_table_is_refused(tmp_path: Path) -> None:
    from model_prep.source import source_layer
    from model_prep.writer import write_model
    from tests.unit.prep.sources import source_of

    draw = np.random.default_rng(0)
    weight = draw.choice(np.array([1, 2, 3], np.float32), (16, 20)) * (draw.random((16, 20)) < 0.3)
    model = tmp_path / "m"
    write_model(source_of(source_layer("w", sparse.csr_array(weight))), model, workers=[2])
    manifest = json.loads((model / "manifest.json").read_bytes())
    assert manifest["layers"][0]["values"] == {"values": [1.0, 2.0, 3.0]}
    with_manifest(model, set_layer(0, values={"values": [1.0]}))
    with pytest.raises(ModelError, match="names values that there are not"):
        open_model(model)


def test_an_order_of_outputs_that_is_none_is_refused(model: Path) -> None:
    manifest = json.loads((model / "manifest.json").read_bytes())
    order = manifest["layers"][-1]["order"]
    assert order["dtype"] == "U8"
    assert order["length"] == 8
    path = model / order["file"]
    sound = path.read_bytes()
    for forged in (bytes([0, 1, 2, 3, 4, 5, 6, 255]), bytes(8)):
        data = bytearray(sound)
        data[order["offset"] : order["offset"] + 8] = forged
        with_file(model, order["file"], bytes(data))
        with pytest.raises(ModelError, match="does not name each output once"):
            open_model(model)


# ---- sources ----


def npz_of(**parts: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **parts)
    return stream.getvalue()


def a_billion_rows() -> dict[str, bytes]:
    one, zero = np.ones(1), np.zeros(1, np.int64)
    shape = np.array([BILLION, 4])
    csc = {"indices": zero, "indptr": np.array([0, 1, 1, 1, 1])}
    return {
        "w.mtx": f"%%MatrixMarket matrix coordinate real general\n{BILLION} 4 1\n1 1 1\n".encode(),
        "w.mtx.gz": gzip.compress(
            f"%%MatrixMarket matrix coordinate real general\n4 {BILLION} 1\n1 1 1\n".encode()
        ),
        "coo.npz": npz_of(format=np.array(b"coo"), shape=shape, data=one, row=zero, col=zero),
        "csc.npz": npz_of(format=np.array(b"csc"), shape=shape, data=one, **csc),
        f"n{BILLION - 1}-l1.tsv": b"1\t1\t1\n",
    }


@pytest.mark.parametrize("name", a_billion_rows())
def test_a_source_of_a_billion_rows_takes_no_memory_for_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(a_billion_rows()[name])
    options = {"bias": 0.0} if name.endswith(".tsv") else {}
    outcome = outcome_of(read_some_source, tmp_path if options else tmp_path / name, options)
    assert "ModelError" in outcome.kinds, outcome.message
    assert "a layer has at most 16,777,216 outputs" in outcome.message
    assert outcome.grown_bytes < 64 * MIB


def read_some_source(path: Path, options: dict[str, float]) -> None:
    read_source(path, **options)


@pytest.mark.parametrize("text", ["radixnet:1073741824x2", "alive:999999999x2", "radixnet:1024x999999999"])
def test_a_generated_network_has_bounds(text: str) -> None:
    with pytest.raises(ModelError):
        open_source(text)


def test_a_zip_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    """Its directory says 1,000 bytes; its stream has 128 MiB."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", bytes(128 * MIB))
    data = stream.getvalue().replace((128 * MIB).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    (tmp_path / "w.npz").write_bytes(data)
    outcome = outcome_of(read_some_source, tmp_path / "w.npz", {})
    assert "ModelError" in outcome.kinds, outcome.message
    assert outcome.grown_bytes < 64 * MIB


def test_odd_digits_in_a_file_s_name_are_letters(tmp_path: Path) -> None:
    for name in ("l\u00b2.npy", "l1.npy"):
        np.save(tmp_path / name, np.eye(2, dtype=np.float32))
    assert open_source(str(tmp_path)).layers == 2
