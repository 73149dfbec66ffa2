"""A prepared model that somebody has tampered with, and made consistent again: its hashes are right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from lamella.cut import read_cut
from lamella.files import Directory
from lamella.manifest import MANIFEST, read_manifest
from lamella.plan import Plan
from lamella.predictions import source_rows
from lamella.strategies import tasks_of
from lamella.streaming import WeightStream
from lamella.tiles import read_tiles
from lamella.verify import verify_files
from model_prep.writer import write_model
from tests.unit.prep.sources import random_source

WIDTHS = [20, 16, 12, 8]


def make_model(folder: Path) -> Path:
    write_model(random_source(WIDTHS), folder, workers=[2])
    return folder


def with_manifest(model: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    path = model / MANIFEST
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_bytes(json.dumps(manifest).encode())
    return model


def with_file(model: Path, name: str, data: bytes) -> Path:
    """Another content of a file, as the manifest then says."""
    (model / name).write_bytes(data)
    stored = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return with_manifest(model, lambda manifest: manifest["files"].update({name: stored}))


def with_tensors(model: Path, name: str, change: Callable[[dict[str, NDArray[Any]]], Any]) -> Path:
    tensors = {key: each.copy() for key, each in load_file(model / name).items()}
    change(tensors)
    return with_file(model, name, save({key: np.ascontiguousarray(each) for key, each in tensors.items()}))


def open_model(model: Path) -> None:
    """All that functions do with a model before they compute: Plan, each worker, Collect."""
    manifest = verify_files(model)
    files = Directory(model)
    cut, tiles = read_cut(files, manifest, 2), read_tiles(files, manifest)
    for task in tasks_of(manifest, cut, Plan("rows", "memory", 2, 1024, 1)):
        with WeightStream(files, manifest, tiles, task.parts) as weights:
            for part in weights:
                layer = manifest.layers[part.layer]
                position = np.arange(layer.columns, dtype=np.int32)
                part.for_kernel(layer, position, layer.columns)
                part.for_kernel(layer, None, layer.columns)
    source_rows(files, manifest.layers[-1])


def open_manifest(model: Path) -> None:
    read_manifest(Directory(model))
