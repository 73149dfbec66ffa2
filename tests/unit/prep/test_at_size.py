"""Preparing large networks: layer by layer, in little memory, always into the same bytes."""

from __future__ import annotations

import hashlib
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from lamella.files import Directory
from lamella.manifest import read_manifest
from model_prep.radixnet import RadixNet
from model_prep.writer import write_model

GOLDEN = Path(__file__).parents[2] / "data" / "prepared-1024x120.sha256"


def test_the_official_network_is_always_prepared_into_the_same_bytes(tmp_path: Path) -> None:
    write_model(RadixNet(1024, 120).source(), tmp_path / "m")
    made = {
        path.relative_to(tmp_path / "m").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "m").rglob("*")
        if path.is_file()
    }
    pairs = (line.split() for line in GOLDEN.read_text().splitlines())
    assert made == {name: digest for digest, name in pairs}


def prep_peak_bytes(layers: int, out: Path) -> int:
    source = replace(RadixNet(4096, 64).source(), layers=layers)
    tracemalloc.start()
    try:
        write_model(source, out)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_holds_a_file_of_layers_and_the_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_prep.writer.FILE_BYTES", 1 << 20)
    few, many = (prep_peak_bytes(layers, tmp_path / str(layers)) for layers in (8, 40))
    manifest = read_manifest(Directory(tmp_path / "40"))
    cuts = sum(manifest.files[path].bytes for path in manifest.cuts.values())
    weights = sum(file.bytes for file in manifest.files.values()) - cuts
    assert weights > 10 << 20
    assert many - few < 4 * cuts
