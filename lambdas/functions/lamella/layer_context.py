"""For which layer the calls to services are made that are under way: what they are counted by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_layer: ContextVar[int | None] = ContextVar("layer", default=None)


@contextmanager
def for_layer(layer: int) -> Iterator[None]:
    """What is called meanwhile, here and in contexts copied from this one, is called for a layer."""
    before = _layer.set(layer)
    try:
        yield
    finally:
        _layer.reset(before)


def current_layer() -> int | None:
    """That layer; None if it is for none."""
    return _layer.get()
