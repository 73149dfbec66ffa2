"""What the embedded cloud raises."""

from __future__ import annotations


class EmbeddedCloudError(Exception):
    """The embedded cloud cannot do what was asked; the message says what, where and what to do."""


class InterpreterNotFoundError(EmbeddedCloudError):
    """No interpreter on this machine runs the Runtime that a function names."""
