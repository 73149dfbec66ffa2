"""What has come of one worker's letters: chunk by chunk, each once, whole or not yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lamella.channels import Place, Source
from lamella.errors import MessageError
from lamella.messages import Message

# Places of layer 0, of which no peer needs a halo: where workers tell that they have come, and where worker 0
# answers.
COMING: Place = (0, 0)
GOING: Place = (0, 1)


class Letters:
    """Letters by place and source: in pieces, whole, or taken.

    Parameters
    ----------
    expected
        Those that may come, and the most bytes of each: all that is kept. None where anything may.
    """

    def __init__(self, expected: Mapping[Source, int] | None) -> None:
        self._expected = expected
        self._chunks: dict[Source, dict[int, Message]] = {}
        self._taken: set[Source] = set()

    @property
    def messages(self) -> list[Message]:
        """Of letters that were not taken yet."""
        return [message for chunks in self._chunks.values() for message in chunks.values()]

    def forget(self, taken: Iterable[Source]) -> None:
        """Take none of these any more: an earlier start of the worker has."""
        self._taken.update(taken)

    def check_expected(self, key: Source, size_bytes: int) -> None:
        """Refuse what may not come.

        Raises
        ------
        MessageError
            If nothing waits for it, or not for so much.
        """
        if self._expected is None or size_bytes <= self._expected.get(key, -1):
            return
        (layer, first_sample), source = key
        raise MessageError(
            f"a message says it is worker {source}'s for layer {layer}, samples from {first_sample}, and "
            + (f"has {size_bytes:,} bytes" if key in self._expected else "nothing waits for that")
        )

    def keep(self, message: Message) -> bool:
        """Put a message to the others of its letter, unless it is known; whether that is whole now.

        Raises
        ------
        MessageError
            If it contradicts another, or makes more than is expected.
        """
        if message.key in self._taken:
            return False
        if message.key[0] in (COMING, GOING) and self.is_whole(message.key):
            # A worker that is started again comes again, and may say another moment: the first one counts.
            return True
        chunks = self._chunks.setdefault(message.key, {})
        had = next(iter(chunks.values()), message)
        if had.chunks != message.chunks or chunks.get(message.chunk, message) != message:
            raise MessageError(
                f"worker {message.source} sent two different messages for layer {message.layer}"
            )
        chunks[message.chunk] = message
        self.check_expected(message.key, sum(len(each.payload) for each in chunks.values()))
        return self.is_whole(message.key)

    def is_known(self, key: Source) -> bool:
        """Whether all of it is here, or was."""
        return key in self._taken or self.is_whole(key)

    def is_whole(self, key: Source) -> bool:
        """Whether all of it is here."""
        chunks = self._chunks.get(key, {})
        return any(len(chunks) == message.chunks for message in chunks.values())

    def read(self, key: Source) -> bytes:
        """One that is whole."""
        chunks = self._chunks[key]
        return b"".join(chunks[i].payload for i in range(len(chunks)))

    def take(self, key: Source) -> bytes:
        """The same, which is not kept any longer, nor when it comes again."""
        letter = self.read(key)
        del self._chunks[key]
        self._taken.add(key)
        return letter
