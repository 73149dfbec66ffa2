"""The contract of a channel: it carries bytes to peers, at least once and in any order.

What a message is, that none is applied twice, and how a letter goes that does not fit one, is the mailbox's
business, over any channel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Protocol, Self

from lamella.plan import ChannelName
from lamella.usage import Usage

# The layer that a message is an input of, and the first sample of its micro-batch.
Place = tuple[int, int]
# A place, and the worker that sends there.
Source = tuple[Place, int]


@dataclass(frozen=True)
class Delivery:
    """A message as received.

    Attributes
    ----------
    receipt
        What the channel needs to acknowledge it.
    identity
        The same where the channel delivers the same message again, with another receipt; empty where it
        never does.
    """

    data: bytes
    receipt: str
    identity: str = ""


class ObjectStore(Protocol):
    """Where workers leave for each other what no message holds."""

    def write(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        """Leave a worker's bytes for each peer, at a place to which it does so once."""

    def read_all(self, sources: Sequence[Source]) -> list[bytes]:
        """What others left for this worker, when they have said that they did."""


class Channel(ABC):
    """One worker's end of a channel. One thread may send while another receives.

    Attributes
    ----------
    kind
        By which a plan names it, `lamella.channels.estimates` tells its price, and profiles its latency.
    max_message_bytes
        The longest message that it carries.
    objects
        Where longer ones go; None where there is no such place, or no need of it.
    forgets
        Whether what is acknowledged is gone, and what isn't comes again. Otherwise all can be had again.
    """

    kind: ClassVar[ChannelName]
    max_message_bytes: int
    objects: ObjectStore | None = None
    forgets: ClassVar[bool] = True

    @abstractmethod
    def send(self, place: Place, messages: Sequence[tuple[int, bytes]]) -> None:
        """Send each message to the worker of that number; returns when the channel has all of them.

        A worker sends to a place once; sending the same there again changes nothing.

        Raises
        ------
        CloudError
            If it does not take them, after retries.
        """

    @abstractmethod
    def receive(self, wanted: Collection[Source], wait_s: float) -> list[Delivery]:
        """Messages for this worker: some as soon as there are any, none after ``wait_s``.

        Those from ``wanted`` are looked for (without a wait, every one of them); others may come too. One
        that is not acknowledged soon may come again.
        """

    @abstractmethod
    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """These need not come again; it may be told to the service later, but soon, or at `close`."""

    def keep(self, deliveries: Sequence[Delivery]) -> None:  # noqa: B027 - of what comes again only
        """These are still held, and need not come again for a while; one that does is no matter."""

    def leaving(self, deliveries: int) -> Usage:
        """What acknowledging so many more and closing will request."""
        del deliveries
        return Usage()

    def close(self) -> None:  # noqa: B027 - a channel that keeps nothing has nothing to do
        """Leave after the last message; may be called twice."""

    def abort(self) -> None:  # noqa: B027
        """Leave at once, without telling the service anything; may be called twice, and after `close`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
