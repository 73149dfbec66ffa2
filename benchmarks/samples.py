"""The batch that benchmarks infer: the official images where they are, else blobs like them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array, save_npz

from lamella.inputs import read_batch
from model_prep.blobs import digit_blobs, repeat_pixels
from model_prep.reference import scipy_matrix

IMAGES = "sparse-images-1024.first10000.tsv.gz"
PIXELS, SAMPLES = 1024, 10_000
_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "graph-challenge"


@dataclass(frozen=True)
class Samples:
    """A batch, as plain scipy takes it and as a run reads it.

    Attributes
    ----------
    matrix : (samples, features) float32
    path
        The same in a file.
    """

    description: str
    matrix: csr_array[np.float32, tuple[int, int]]
    path: Path


def benchmark_samples(neurons: int, folder: Path, samples: int = SAMPLES) -> Samples:
    """The first images of ``neurons`` pixels, written into ``folder`` where they are not a file yet.

    ``$LAMELLA_GRAPH_CHALLENGE`` names the folder of the official images; images of more than 32 x 32 pixels
    are those, each pixel repeated.
    """
    images = Path(os.environ.get("LAMELLA_GRAPH_CHALLENGE") or _SHARED) / IMAGES
    if images.exists():
        description = f"the first {samples:,} official images"
        matrix = scipy_matrix(read_batch(images.read_bytes(), images.name, PIXELS, SAMPLES))
        if (neurons, samples) == (PIXELS, SAMPLES):
            return Samples(description, matrix, images)
    else:
        description = f"{samples:,} digit-like blobs (seed 0)"
        matrix = digit_blobs(samples)
    matrix = csr_array(repeat_pixels(csr_array(matrix[:samples]), neurons))
    path = folder / f"samples-{neurons}.npz"
    save_npz(path, matrix)
    return Samples(description, matrix, path)
