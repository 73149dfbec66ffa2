"""A record that counts the request that writes it."""

from __future__ import annotations

from collections.abc import Callable

from lamella.usage import Count, Usage


def with_own_write(usage: Usage, build: Callable[[Usage], bytes]) -> bytes:
    """The body of an S3 object that states ``usage`` and, in it, its own PUT.

    The size it states is its own: a longer number makes a longer body, so a few rounds settle it.
    """
    body = build(usage)
    for _ in range(5):
        size = len(body)
        body = build(usage + Usage({"s3.put_object": Count(calls=1, billed=1, bytes=size)}))
        if len(body) == size:
            break
    return body
