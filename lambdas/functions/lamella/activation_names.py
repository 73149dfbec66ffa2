"""Names of activation functions, as ``model.json`` and the manifest have them."""

from typing import Literal

# Element by element, which workers apply; `lamella.kernel.curves` has them.
ActivationName = Literal["identity", "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh"]
# Of whole samples, which only Collect has; so of the last layer alone.
Activation = Literal["identity", "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "softmax"]
