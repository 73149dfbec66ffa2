"""What a channel is used for: pure functions over what is to be sent. How long it takes, profiles say.

Calls, billed units and bytes are those that metering counts for the same messages, as far as they do not
depend on timing; for the others, what was measured is foreseen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lamella.channels.base import Place
from lamella.channels.object_format import HEAD_BYTES, index_bytes
from lamella.channels.packing import BATCH_ENTRIES, pack
from lamella.channels.wire import (
    SNS_BATCH_BYTES,
    SNS_MESSAGE_BYTES,
    SQS_BATCH_BYTES,
    SQS_MESSAGE_BYTES,
    sns_size_bytes,
    sqs_size_bytes,
)
from lamella.messages import HEADER_BYTES
from lamella.plan import ChannelName
from lamella.slots import slot_name
from lamella.usage import Count, Usage, billed_requests, merge

# How often a queue is asked for what a worker is sent for one step: it gives what is there, and more comes
# later. On the embedded cloud it was 2.9 (2,747 calls for 952 steps of the official network, 8 workers).
RECEIVES = 3
# How often an object is asked for in vain, by each worker for each step (with `Patience`, simulated).
MISSES = 2


@dataclass(frozen=True)
class Send:
    """What one worker posts to one place: the bytes of each peer's letter."""

    sender: int
    place: Place
    letters: Mapping[int, int]


def price_of_sns(sends: Sequence[Send]) -> Usage:
    """Expected usage over SNS and SQS; slots are taken to be numbered as workers are."""
    publishes: list[Count] = []
    for send in sends:
        sizes = [sns_size_bytes(size, slot_name(peer)) for peer, size in _messages(send, SNS_MESSAGE_BYTES)]
        publishes += [_request(sum(batch)) for batch in pack(sizes, lambda size: size, SNS_BATCH_BYTES)]
    return merge([Usage({"sns.publish_batch": _sum(publishes)}), _receiving(sends, SNS_MESSAGE_BYTES)])


def price_of_sqs(sends: Sequence[Send]) -> Usage:
    """Expected usage over queues alone."""
    calls: list[Count] = []
    for send in sends:
        by_peer: defaultdict[int, list[int]] = defaultdict(list)
        for peer, size in _messages(send, SQS_MESSAGE_BYTES):
            by_peer[peer].append(sqs_size_bytes(size))
        for sizes in by_peer.values():
            calls += [_request(sum(batch)) for batch in pack(sizes, lambda size: size, SQS_BATCH_BYTES)]
    return merge([Usage({"sqs.send_message_batch": _sum(calls)}), _receiving(sends, SQS_MESSAGE_BYTES)])


def price_of_s3(sends: Sequence[Send]) -> Usage:
    """Expected usage over S3."""
    objects = [
        _object_usage({peer: size + HEADER_BYTES for peer, size in send.letters.items()})
        for send in sends
        if send.letters
    ]
    asked = len({(peer, send.place) for send in sends for peer in send.letters}) * MISSES
    return merge([*objects, Usage({"s3.get_object": Count(asked, asked)})])


def price_of_nothing(sends: Sequence[Send]) -> Usage:
    """Of threads that share a memory."""
    del sends
    return Usage()


PRICES: Mapping[ChannelName, Callable[[Sequence[Send]], Usage]] = {
    "sns": price_of_sns,
    "sqs": price_of_sqs,
    "s3": price_of_s3,
    "memory": price_of_nothing,
    "none": price_of_nothing,
}


def _messages(send: Send, most_bytes: int) -> list[tuple[int, int]]:
    """Peer and size of each message of a post; a letter that does not fit one leaves a pointer."""
    return [
        (peer, HEADER_BYTES + (0 if _is_large(size, most_bytes) else size))
        for peer, size in send.letters.items()
    ]


def _is_large(letter_bytes: int, most_bytes: int) -> bool:
    return letter_bytes + HEADER_BYTES > most_bytes


def _receiving(sends: Sequence[Send], most_bytes: int) -> Usage:
    """What queues are asked for, what is deleted from them, and the objects of large letters."""
    arriving: defaultdict[tuple[int, Place], list[int]] = defaultdict(list)
    objects: list[Usage] = []
    for send in sends:
        for peer, size in _messages(send, most_bytes):
            arriving[peer, send.place].append(sqs_size_bytes(size))
        large = {peer: size for peer, size in send.letters.items() if _is_large(size, most_bytes)}
        if large:
            objects.append(_object_usage({peer: size + HEADER_BYTES for peer, size in large.items()}))
    receives: list[Count] = []
    had: Counter[int] = Counter()
    for (peer, _), sizes in arriving.items():
        had[peer] += len(sizes)
        calls = min(len(sizes), RECEIVES - 1 + -(-len(sizes) // BATCH_ENTRIES))
        shares = [sum(sizes[i::calls]) for i in range(calls)]
        receives += [_request(share) for share in shares]
    deletions = sum(-(-count // BATCH_ENTRIES) for count in had.values())
    queues = Usage(
        {
            "sqs.receive_message": _sum(receives),
            "sqs.delete_message_batch": Count(deletions, deletions),
        }
    )
    return merge([queues, *objects])


def _object_usage(sizes: Mapping[int, int]) -> Usage:
    """One object with a message of so many bytes for each peer, written once, and read by each."""
    end = index_bytes(len(sizes))
    total = end + sum(sizes.values())
    reads: list[Count] = []
    for peer in sorted(sizes):
        begin, end = end, end + sizes[peer]
        reads.append(Count(1, 1, min(total, HEAD_BYTES)))
        if end > HEAD_BYTES:
            reads.append(Count(1, 1, end - max(begin, HEAD_BYTES)))
    return Usage({"s3.put_object": Count(1, 1, total), "s3.get_object": _sum(reads)})


def _request(payload_bytes: int) -> Count:
    return Count(1, billed_requests(payload_bytes), payload_bytes)


def _sum(counts: Iterable[Count]) -> Count:
    return sum(counts, Count())
