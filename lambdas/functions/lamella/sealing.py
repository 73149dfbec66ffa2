"""A record that counts the request that writes it."""

from __future__ import annotations

from collections.abc import Callable

from lamella.usage import Count, Usage


def one_put(size_bytes: int) -> Usage:
    """What writing a small object takes."""
    return Usage({"s3.put_object": Count(calls=1, billed=1, bytes=size_bytes)})


def with_own_write(
    usage: Usage, build: Callable[[Usage], bytes], own: Callable[[int], Usage] = one_put
) -> bytes:
    """The body, or head, of an S3 object that states ``usage`` and, in it, what writing itself takes.

    The size it states is its own: a longer number makes a longer body, so a few rounds settle it.

    Parameters
    ----------
    own
        What is requested to write it, by its size.
    """
    body = build(usage)
    for _ in range(5):
        size = len(body)
        body = build(usage + own(size))
        if len(body) == size:
            break
    return body
