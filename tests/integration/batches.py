"""Samples for whole runs."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from model_prep.blobs import digit_blobs

CHECKOUT = Path(__file__).resolve().parents[2]
GRAPH_CHALLENGE = Path(
    os.environ.get("LAMELLA_GRAPH_CHALLENGE", CHECKOUT.parent / "shared" / "data" / "graph-challenge")
)
IMAGES = GRAPH_CHALLENGE / "sparse-images-1024.first10000.tsv.gz"
TRUTH = GRAPH_CHALLENGE / "neuron1024-l120-categories.tsv"
NETWORK = GRAPH_CHALLENGE / "neuron1024.tar.xz"


def blobs(samples: int, side: int, seed: int = 0) -> sparse.csr_array:
    """Generated images, samples x pixels."""
    return digit_blobs(samples, side, seed)


def write_npz(path: Path, batch: sparse.csr_array) -> Path:
    """A batch as an input file."""
    sparse.save_npz(path, sparse.csr_matrix(batch))
    return path


def official_images() -> sparse.csr_array:
    """The official images as samples x features, read by nothing of Lamella."""
    entries = np.loadtxt(io.StringIO(gzip.decompress(IMAGES.read_bytes()).decode()), dtype=np.float32)
    rows, columns = entries[:, 0].astype(int) - 1, entries[:, 1].astype(int) - 1
    return sparse.csr_array(sparse.coo_array((entries[:, 2], (rows, columns)), shape=(10_000, 1024)))


def official_categories() -> NDArray[np.int64]:
    """The official truth for those images: their 1-based numbers."""
    numbers = np.loadtxt(TRUTH, dtype=np.int64)
    return numbers[numbers <= 10_000]
