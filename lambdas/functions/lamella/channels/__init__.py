"""How workers exchange activations: one contract, one module per way."""

from lamella.channels.base import Channel, Delivery, Place, Source

__all__ = ["Channel", "Delivery", "Place", "Source"]
