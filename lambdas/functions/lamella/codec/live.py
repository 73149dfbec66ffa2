"""Which samples are alive, as a change against those that were before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lamella.codec.sections import UNSIGNED, Reader, Writer, narrowest
from lamella.errors import MessageError
from lamella.plan import Range

Bits = NDArray[np.uint8]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Base:
    """The samples that the last message between two workers held.

    Attributes
    ----------
    layer
        The base's name: the layer that the message was an input of.
    bits : (samples / 8,) uint8
        One for each sample of the micro-batch, as numpy packs them.
    """

    layer: int
    bits: Bits

    @classmethod
    def of(cls, layer: int, live: Positions, samples: Range) -> Base:
        """The base that a message leaves."""
        return cls(layer, packed(live - samples[0], samples[1] - samples[0]))


def packed(positions: Positions, count: int) -> Bits:
    """A bit for each of ``count`` positions."""
    chosen = np.zeros(count, bool)
    chosen[positions] = True
    return np.packbits(chosen)


def unpacked(bits: Bits, count: int) -> Positions:
    """The positions whose bits are set."""
    return _as_mask(bits, count).nonzero()[0]


def _as_mask(bits: Bits, count: int) -> NDArray[np.bool_]:
    return np.unpackbits(bits, count=count).view(bool)


# How those that are kept of others are written.
_ALL, _KEPT, _REMOVED, _BITS = range(4)
_FORM = 3
_WIDTH_SHIFT = 2  # two bits: which unsigned type the list's gaps have
_OVER_BASE = 16
_ADDED_SHIFT = 5  # two bits: the same, of the list of those that were added


@dataclass(frozen=True)
class _Choice:
    """Some of ``of`` positions: ``list`` has their gaps, or those of all others, or a bit for each."""

    form: int
    list: NDArray[np.unsignedinteger]

    @property
    def flags(self) -> int:
        width = UNSIGNED.index(self.list.dtype) if self.form in (_KEPT, _REMOVED) else 0
        return self.form | width << _WIDTH_SHIFT

    @property
    def size(self) -> int:
        return self.list.nbytes


@dataclass(frozen=True)
class _Change:
    """Those of a base that are kept, and the gaps of those that were added."""

    kept: _Choice
    added: NDArray[np.unsignedinteger]

    @property
    def size(self) -> int:
        return self.kept.size + self.added.nbytes


def write_live(writer: Writer, bits: Bits, live: Positions, count: int, base: Base | None) -> None:
    """Write which of ``count`` samples are alive, in the shortest way.

    Parameters
    ----------
    bits, live
        Both say which.
    """
    if base and base.bits.tobytes() == bits.tobytes():
        writer.raw(bytes([_OVER_BASE | _ALL]))
        writer.number(base.layer)
        writer.number(0)
        return
    change = _change(bits, count, base) if base else None
    # Without a base it takes at least a byte for each that is listed, or the bits.
    least = min(len(live), count - len(live), len(bits))
    whole = _choose(live, count, bits) if change is None or change.size > least else None
    if change and (whole is None or change.size < whole.size):
        choice, added = change.kept, change.added
        flags = choice.flags | _OVER_BASE | UNSIGNED.index(added.dtype) << _ADDED_SHIFT
    else:
        assert whole
        choice, added = whole, _gaps(live[:0])
        flags = choice.flags
    writer.raw(bytes([flags]))
    if flags & _OVER_BASE:
        assert base
        writer.number(base.layer)
        writer.number(len(added))
    if choice.form in (_KEPT, _REMOVED):
        writer.number(len(choice.list))
    writer.section(choice.list)
    writer.section(added)


def read_live(reader: Reader, count: int, base: Base | None) -> Positions:
    """Read what `write_live` wrote.

    Raises
    ------
    MessageError
        If it is something else, or a change against another base.
    """
    flags = reader.raw(1)[0]
    if not flags & _OVER_BASE:
        if flags >= 1 << _ADDED_SHIFT:
            raise MessageError("activations add samples to no base")
        return _read_choice(reader, flags, count, np.arange)
    layer = reader.number()
    if base is None or base.layer != layer or len(base.bits) != (count + 7) // 8:
        had = "none" if base is None else f"that of layer {base.layer}"
        raise MessageError(f"activations are a change against those for layer {layer}, and the base is {had}")
    added = _at_most(reader.number(), count)
    before = unpacked(base.bits, count)
    live = _read_choice(reader, flags, len(before), lambda _: before)
    if added:
        new = _from_gaps(reader.section(_width(flags >> _ADDED_SHIFT), added), count)
        live = np.union1d(live, new)
    return live


def _change(bits: Bits, count: int, base: Base) -> _Change:
    is_live, was_live = _as_mask(bits, count), _as_mask(base.bits, count)
    is_kept = is_live[was_live]
    kept = _choose(is_kept.nonzero()[0], len(is_kept), np.packbits(is_kept))
    return _Change(kept, _gaps((is_live & ~was_live).nonzero()[0]))


def _choose(chosen: Positions, of: int, bits: Bits) -> _Choice:
    """The shortest way to say which of ``of`` positions are chosen."""
    if len(chosen) == of:
        return _Choice(_ALL, np.zeros(0, UNSIGNED[0]))
    ways = [_Choice(_BITS, bits)]
    if len(chosen) < len(bits):
        ways.append(_Choice(_KEPT, _gaps(chosen)))
    if of - len(chosen) < len(bits):
        is_left = np.ones(of, bool)
        is_left[chosen] = False
        ways.append(_Choice(_REMOVED, _gaps(is_left.nonzero()[0])))
    return min(ways, key=lambda way: way.size)


def _read_choice(reader: Reader, flags: int, of: int, everyone: Callable[[int], Positions]) -> Positions:
    form = flags & _FORM
    if form == _ALL:
        return everyone(of)
    if form == _BITS:
        chosen = _as_mask(reader.section(UNSIGNED[0], (of + 7) // 8), of)
    else:
        count = _at_most(reader.number(), of)
        listed = _from_gaps(reader.section(_width(flags >> _WIDTH_SHIFT), count), of)
        chosen = np.full(of, form == _REMOVED)
        chosen[listed] = form == _KEPT
    return everyone(of)[chosen]


def _gaps(ascending: Positions) -> NDArray[np.unsignedinteger]:
    """How many are passed over before each, in the narrowest type."""
    gaps = ascending.copy()
    gaps[1:] -= ascending[:-1] + 1
    return gaps.astype(UNSIGNED[narrowest(int(gaps.max(initial=0)))])


def _from_gaps(gaps: NDArray[np.unsignedinteger], of: int) -> Positions:
    positions = np.cumsum(gaps.astype(np.int64) + 1) - 1
    if len(positions) and positions[-1] >= of:
        raise MessageError("activations name samples that there are not")
    return positions


def _width(flags: int) -> np.dtype[np.unsignedinteger]:
    width = flags & 3
    if width >= len(UNSIGNED):
        raise MessageError("activations list samples in no known way")
    return UNSIGNED[width]


def _at_most(number: int, most: int) -> int:
    if number > most:
        raise MessageError(f"activations list {number} samples of {most}")
    return number
