"""What a message is: the bytes that a channel carries from worker to worker."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

from lamella.channels import Source
from lamella.errors import MessageError

# magic, run, attempt, layer, first sample of the micro-batch, source, chunk, chunks, checksum
_HEADER = struct.Struct("<4s8sHIIHHHI")
_MAGIC = b"LML1"
HEADER_BYTES = _HEADER.size
# Of a message that says only that the letter lies in an object: it is chunk 0 of none.
POINTER_CHUNKS = 0


@dataclass(frozen=True)
class Message:
    """One chunk of what a worker sends to a peer for one layer and micro-batch, or a pointer to all of it."""

    run: bytes
    attempt: int
    layer: int
    first_sample: int
    source: int
    chunk: int
    chunks: int
    payload: bytes

    @property
    def key(self) -> Source:
        """The letter that it is of."""
        return (self.layer, self.first_sample), self.source

    @property
    def is_pointer(self) -> bool:
        return self.chunks == POINTER_CHUNKS

    def to_bytes(self) -> bytes:
        """Header, checksum, payload."""
        return self._header(self.checksum()) + self.payload

    def checksum(self) -> int:
        """Of header and payload."""
        return zlib.crc32(self.payload, zlib.crc32(self._header(0)))

    def _header(self, checksum: int) -> bytes:
        place = (self.layer, self.first_sample, self.source, self.chunk, self.chunks)
        return _HEADER.pack(_MAGIC, self.run, self.attempt, *place, checksum)


def parse_message(data: bytes) -> Message:
    """Read what `Message.to_bytes` wrote.

    Raises
    ------
    MessageError
        If it is something else, or damaged.
    """
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise MessageError("these bytes are no message")
    _, run, attempt, layer, first_sample, source, chunk, chunks, checksum = _HEADER.unpack_from(data)
    message = Message(run, attempt, layer, first_sample, source, chunk, chunks, data[_HEADER.size :])
    if message.checksum() != checksum:
        raise MessageError("a message is damaged: its checksum differs")
    if message.is_pointer:
        if message.chunk or message.payload:
            raise MessageError("a message points elsewhere, and has a payload of its own")
    elif not message.chunk < message.chunks:
        raise MessageError(f"a message is chunk {message.chunk} of {message.chunks}")
    return message


def run_digest(run: str) -> bytes:
    """A run's mark in its messages: 8 bytes, for ids of any length."""
    return hashlib.sha256(run.encode()).digest()[:8]


def is_of_run(data: bytes, run: bytes, attempt: int) -> bool:
    """Whether bytes that don't parse were meant for an attempt at a run, or for a later one."""
    return data[4:12] == run and int.from_bytes(data[12:14], "little") >= attempt
