"""What every kernel offers; all of them give the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lamella.errors import NonFiniteActivation
from lamella.kernel.blocks import Block, Piece
from lamella.kernel.layers import AnyLayer, DenseWeights, LayerWeights

Layer = LayerWeights | DenseWeights


class BoundLayers(Protocol):
    """Consecutive layers, as a kernel wants them. Safe to use from several threads."""

    def through(
        self, pieces: Sequence[Piece], out: NDArray[np.float32], first: int, stop: int, *, drop: bool
    ) -> Block:
        """Take some samples through the layers ``[first, stop)``.

        Parameters
        ----------
        pieces
            Not more than `WIDEST` samples.
        out
            Where the result's values go: room for the last layer and all of these samples, padded.
        drop
            Leave out samples that are zero in every row of a layer.

        Raises
        ------
        NonFiniteActivation
            If a layer gives NaN or infinity; names the layer.
        """
        ...

    def rows(
        self, number: int, block: Block, out: NDArray[np.float32], first: int, stop: int
    ) -> NDArray[np.bool_]:
        """Rows ``[first, stop)`` of one layer, into ``out`` of the block's stride.

        Returns
        -------
        (block.width,) bool
            Which samples are not zero in all of these rows.

        Raises
        ------
        NonFiniteActivation
            As `through`.
        """
        ...


class Kernel(Protocol):
    """A way to multiply."""

    @property
    def name(self) -> str:
        """For reports."""
        ...

    def bind(self, layers: Sequence[Layer]) -> BoundLayers:
        """Layers in this kernel's form."""
        ...


def not_finite(layer: AnyLayer) -> NonFiniteActivation:
    """The error for a layer that gave NaN or infinity."""
    return NonFiniteActivation(
        f"layer {layer.number} gives NaN or infinity: check the model's weights and the input's scale"
    )
