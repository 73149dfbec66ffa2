"""The arithmetic of a run: every bit of a result is made here.

A row's sum is taken whole, in stored order, in float32, each product and each sum rounded on its own. So a
result does not depend on how rows, samples and layers were dealt out, nor on threads or the processor.
"""

from lamella.kernel.layers import DenseWeights, LayerWeights, dense_panels
from lamella.kernel.processor import Processor, threads_for
from lamella.kernel.waves import forward

__all__ = ["DenseWeights", "LayerWeights", "Processor", "dense_panels", "forward", "threads_for"]
