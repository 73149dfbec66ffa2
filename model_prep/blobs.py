"""Inputs where the Graph Challenge's images are not at hand: seeded blobs that look like digits."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lamella.errors import BatchError

_AT_ONCE = 256
_STROKE_POINTS = 24
# Set so that pixels per image and the share of samples that stay alive are those of the challenge's images.
_SINGLE_STROKES = 0.4
_RADIUS = 0.044
_RADIUS_SPREAD = 0.2
_BOX = 0.55


def digit_blobs(samples: int, side: int = 32, seed: int = 0) -> sparse.csr_array[np.float32, tuple[int, int]]:
    """Binary images of one or two thick curved strokes, in the middle of a square.

    Some 100 of 1,024 pixels are set, 107 in the challenge's images (MNIST's digits at 32 x 32, thresholded),
    and they vary about as much: under the official 1,024-neuron network 4% of them stay alive to the end, of
    the challenge's 3.4%.

    Parameters
    ----------
    samples
        How many.
    side
        Pixels along an edge.
    seed
        The same seed gives the same images; the first n of more samples are those of n.

    Returns
    -------
    (samples, side * side) float32, every stored value 1
    """
    blocks = [
        sparse.csr_array(_strokes(np.random.default_rng([seed, first]), side)[: samples - first])
        for first in range(0, max(samples, 1), _AT_ONCE)
    ]
    stacked: Any = sparse.vstack(blocks, format="csr")
    return cast("sparse.csr_array[np.float32, tuple[int, int]]", stacked)


def _strokes(draw: np.random.Generator, side: int) -> NDArray[np.float32]:
    """A block of images, always as many: (images, side * side)."""
    control = draw.uniform(-0.5, 0.5, (_AT_ONCE, 2, 4, 2))
    # The second stroke starts where the first ends; in some images there is none.
    control[:, 1, 0] = control[:, 0, 3]
    single = draw.random(_AT_ONCE) < _SINGLE_STROKES
    control[single, 1] = control[single, 0]
    radius = _RADIUS * np.exp(_RADIUS_SPREAD * draw.standard_normal(_AT_ONCE))
    t = np.linspace(0, 1, _STROKE_POINTS)
    bezier = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    points = np.einsum("pt,ispx->istx", bezier, control).reshape(_AT_ONCE, -1, 2)
    low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
    extent = (high - low).max(axis=2, keepdims=True)
    points = (points - (low + high) / 2) / extent * _BOX
    pixel = (np.arange(side) + 0.5) / side - 0.5
    squared = (pixel - points[..., np.newaxis]) ** 2  # (images, points, 2, side)
    nearest = np.full((_AT_ONCE, side, side), np.inf)
    for point in range(points.shape[1]):
        down, across = squared[:, point, 0, :, np.newaxis], squared[:, point, 1, np.newaxis, :]
        np.minimum(nearest, down + across, out=nearest)
    return (nearest < (radius**2)[:, np.newaxis, np.newaxis]).reshape(_AT_ONCE, -1).astype(np.float32)


def repeat_pixels(
    images: sparse.csr_array[np.float32, tuple[int, int]], neurons: int
) -> sparse.csr_array[np.float32, tuple[int, int]]:
    """Enlarge square images to a larger network's neurons: each pixel becomes a square of its own.

    Parameters
    ----------
    images : (samples, side * side)
    neurons
        side * side times a square number: 4096, 16384 or 65536 for 32 x 32 images.

    Raises
    ------
    BatchError
        If the images aren't square, or can't be enlarged to that.
    """
    samples, pixels = images.shape
    side, new_side = math.isqrt(pixels), math.isqrt(neurons)
    if side * side != pixels or new_side * new_side != neurons or new_side % side:
        raise BatchError(f"images of {pixels} pixels can't be enlarged to {neurons}: take a square multiple")
    factor = new_side // side
    coordinates = images.tocoo()
    sample, pixel = coordinates.coords
    row, column = np.divmod(pixel.astype(np.int64), side)
    step = np.arange(factor)
    rows = row[:, np.newaxis, np.newaxis] * factor + step[:, np.newaxis]
    columns = column[:, np.newaxis, np.newaxis] * factor + step
    enlarged = (rows * new_side + columns).ravel()
    copies = factor * factor
    values = np.repeat(coordinates.data, copies)
    return sparse.csr_array((values, (np.repeat(sample, copies), enlarged)), shape=(samples, neurons))
