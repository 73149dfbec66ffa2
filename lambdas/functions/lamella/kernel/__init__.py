"""The arithmetic of a run: every bit of a result is made here.

A row's sum is taken whole, over ascending columns of the source, in float32. In a sparse layer each product
and each sum is rounded on its own, as scipy does; in a dense one a product and its addition are rounded
together (fmaf). So a result does not depend on how rows, samples and layers were dealt out, nor on threads or
the processor.
"""

from lamella.kernel.interface import Layer
from lamella.kernel.layers import DenseWeights, LayerWeights
from lamella.kernel.processor import Processor, threads_for
from lamella.kernel.waves import forward

__all__ = ["DenseWeights", "Layer", "LayerWeights", "Processor", "forward", "threads_for"]
