"""The networks of the Graph Challenge, generated instead of downloaded.

With N neurons, M = N / 16 and r = log2 M, row t of layer k reads the columns f with ``inverse_b[f] mod M`` in
``{t, t + 2^(k mod r)} mod M``, where b = k div r: a butterfly of 2^r classes whose columns are shuffled anew
every r layers. inverse_0 is the identity, inverse_b = argsort(argsort(u)), u the next N draws of
``RandomState(5489).random_sample`` (MATLAB's default Mersenne Twister). All weights are 1/16. 1024x120 is the
official network byte for byte; larger ones follow the same rule.

Kepner et al., "Sparse Deep Neural Network Graph Challenge", HPEC 2019; RadiX-Net: Robinett & Kepner, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lamella.errors import ModelError
from model_prep.source import Source, source_layer

if TYPE_CHECKING:
    from pathlib import Path

    from model_prep.source import SourceLayer

IN_DEGREE = 32
WEIGHT = 1 / 16
CLIP = 32.0
BIASES = {1024: -0.3, 4096: -0.35, 16384: -0.4, 65536: -0.45}
_COPIES = 16
_MAX_NEURONS = 2**24


@dataclass(frozen=True)
class RadixNet:
    """A Graph Challenge network.

    Parameters
    ----------
    neurons
        N, a power of two from 32 on; the challenge has 1024, 4096, 16384 and 65536.
    layers
        The challenge has 120, 480 and 1920.

    Raises
    ------
    ModelError
        If there is no such network.
    """

    neurons: int
    layers: int

    def __post_init__(self) -> None:
        n = self.neurons
        if n & (n - 1) or not 2 * _COPIES <= n <= _MAX_NEURONS or self.layers < 1:
            raise ModelError(
                f"radixnet:{n}x{self.layers}: neurons must be a power of two from 32 on, "
                "and layers 1 or more, as in radixnet:1024x120"
            )

    @property
    def classes(self) -> int:
        """M: columns of the same class feed the same rows."""
        return self.neurons // _COPIES

    @property
    def digits(self) -> int:
        """r: layers between two shuffles."""
        return self.classes.bit_length() - 1

    @property
    def bias(self) -> float:
        """The challenge's, or for sizes it doesn't have that of the next smaller one it has."""
        return BIASES[max((n for n in BIASES if n <= self.neurons), default=min(BIASES))]

    @cached_property
    def _shuffles(self) -> list[NDArray[np.int64]]:
        draws = np.random.RandomState(5489)
        shuffles: list[NDArray[np.int64]] = [np.arange(self.neurons)]
        for _ in range((self.layers - 1) // self.digits):
            shuffles.append(np.argsort(np.argsort(draws.random_sample(self.neurons))).astype(np.int64))
        return shuffles

    def columns(self, k: int) -> NDArray[np.int64]:
        """Inputs of each row of layer k (from 0), ascending; shape (neurons, 32)."""
        block, digit = divmod(k, self.digits)
        classes = self.classes
        members = np.argsort(self._shuffles[block] % classes, kind="stable").reshape(classes, _COPIES)
        own = np.arange(self.neurons) % classes
        return np.sort(np.hstack([members[own], members[(own + (1 << digit)) % classes]]), axis=1)

    def layer(self, k: int) -> SourceLayer:
        """Layer k (from 0)."""
        n = self.neurons
        starts = np.arange(0, n * IN_DEGREE + 1, IN_DEGREE)
        weights = np.full(n * IN_DEGREE, WEIGHT, np.float32)
        return source_layer(
            f"radixnet:{n}x{self.layers} layer {k + 1}",
            sparse.csr_array((weights, self.columns(k).ravel(), starts), shape=(n, n)),
            bias=self.bias,
            bias_on="nonzero",
            hi=CLIP,
        )

    def tsv(self, k: int) -> bytes:
        """Layer k (from 0) as the challenge's file: from-neuron, to-neuron, weight; 1-based."""
        lines: list[str] = []
        for row, columns in enumerate((self.columns(k) + 1).tolist(), 1):
            end = f"\t{row}\t{WEIGHT:.6e}\n"
            lines.extend(f"{column}{end}" for column in columns)
        return "".join(lines).encode()

    def write_tsv(self, folder: Path) -> None:
        """Write the network as the challenge has it: ``n{N}-l{k}.tsv`` in a folder, made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        for k in range(self.layers):
            (folder / f"n{self.neurons}-l{k + 1}.tsv").write_bytes(self.tsv(k))

    def source(self) -> Source:
        """The network as a source."""
        description = f"radixnet:{self.neurons}x{self.layers}"
        return Source(description, self.neurons, self.layers, self.layer)
