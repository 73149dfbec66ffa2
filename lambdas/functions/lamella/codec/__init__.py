"""Activations as bytes: lossless to the bit, only what is alive, and decoded within stated bounds."""

from lamella.codec.activations import decode, encode, most_encoded_bytes
from lamella.codec.bases import Bases
from lamella.codec.live import Base

__all__ = ["Base", "Bases", "decode", "encode", "most_encoded_bytes"]
