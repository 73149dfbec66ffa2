"""Bytes made of sound ones: a seed always gives the same."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

_ODD_INTEGERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
_ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, 2**53, 2**64, -(2**63), 10**40, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", "0", "../x", "/etc/passwd", "a\0b", "\n\x1b[2J", "<script>", "\u202e", "x" * 3000, [], {}, [[]],
)  # fmt: skip


def mutated(seeds: Sequence[bytes], seed: str) -> bytes:
    """One of the sound files after one to four changes; sometimes arbitrary bytes."""
    draw = random.Random(seed)
    if draw.random() < 0.03:
        return draw.randbytes(draw.choice((0, 1, 7, 40, 400)))
    data = draw.choice(seeds)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        as_json = draw.random() < 0.5
        data = (_changed_json(data, draw) if as_json else None) or _changed_bytes(data, seeds, draw)
    return data


def _changed_bytes(data: bytes, seeds: Sequence[bytes], draw: random.Random) -> bytes:
    whole = bytearray(data or b"\0")
    at = draw.randrange(len(whole))
    length = draw.choice((1, 1, 2, 4, 8, draw.randrange(1, 64)))
    match draw.randrange(8):
        case 0:
            whole[at] ^= 1 << draw.randrange(8)
        case 1:
            whole[at] = draw.randrange(256)
        case 2:
            del whole[at : at + length]
        case 3:
            whole[at:at] = whole[at : at + length] * draw.choice((1, 1, 2, 50))
        case 4:
            del whole[at:]
        case 5:
            other = draw.choice(seeds)
            begin = draw.randrange(len(other) + 1)
            whole[at:] = other[begin:]
        case 6:
            width = draw.choice((1, 2, 4, 8))
            number = draw.choice(_ODD_INTEGERS) % (1 << 8 * width)
            whole[at : at + width] = number.to_bytes(width, draw.choice(("little", "big")))
        case _:
            whole[at:at] = draw.choice((b"\0", b"\n", b"-", b"9" * 30, b",", b'"', b"[" * 2000, b"\xff\xfe"))
    return bytes(whole)


def _changed_json(data: bytes, draw: random.Random) -> bytes | None:
    """The JSON that the bytes are, or the header of a safetensors file, with one of its values another."""
    begin = 0 if data[:1] == b"{" else 8
    stop = len(data) if not begin else 8 + int.from_bytes(data[:8], "little")
    try:
        whole = json.loads(data[begin:stop])
    except (ValueError, RecursionError):
        return None
    places = list(_places(whole))
    if not places:
        return None
    holder, key = draw.choice(places)
    match draw.randrange(4):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1:
            other, place = draw.choice(places)
            holder[key] = other[place] if other is not holder else draw.choice(_ODD_VALUES)
        case 2 if isinstance(holder[key], int):
            holder[key] += draw.choice((-1, 1, 7, 2**32))
        case _:
            holder[key] = draw.choice(_ODD_VALUES)
    try:
        text = json.dumps(whole).encode()
    except ValueError:
        return None
    if not begin:
        return text
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[stop:]


def _places(value: Any) -> Any:
    """Every (holder, key) in a JSON value."""
    if isinstance(value, dict | list):
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(inner)
