"""A prepared model that is not what it says."""

from __future__ import annotations

from pathlib import Path

from lamella.client import Stack
from lamella.files import Directory
from lamella.manifest import read_manifest
from lamella.plan import LayerPart
from lamella.tiles import read_tiles


def damaged(stack: Stack, model: Path, layer: int, name: str = "flipped") -> str:
    """A copy of the model in S3 with one byte of a layer changed; sizes stay."""
    place = stack.files(f"models/{name}/")
    files = Directory(model)
    manifest = read_manifest(files)
    described = manifest.layers[layer]
    part = LayerPart(layer, (0, described.rows), (0, described.nnz), described.sha256)
    begins = read_tiles(files, manifest).of(part, "").begins
    for path in model.rglob("*"):
        if path.is_file():
            data = bytearray(path.read_bytes())
            file = path.relative_to(model).as_posix()
            if file == described.file:
                data[begins[0]] ^= 1
            place.write(file, bytes(data))
    return place.location()
