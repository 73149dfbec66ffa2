"""What a worker's next messages are a change against: the last one to and from each peer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lamella.activations import Activations
from lamella.codec.activations import all_alike, decode, encode_living
from lamella.codec.live import Base
from lamella.plan import Link, Range

Pair = tuple[int, Range]


class Bases:
    """The last message of each pair of workers, for each micro-batch; the first one has no base.

    Attributes
    ----------
    sent, received
        By peer and samples: small arrays, all that a worker must know to go on with its messages.
    """

    def __init__(self) -> None:
        self.sent: dict[Pair, Base] = {}
        self.received: dict[Pair, Base] = {}

    def encode(
        self, layer: int, samples: Range, block: Activations, first_row: int, links: Sequence[Link]
    ) -> dict[int, bytes]:
        """What goes to each peer, whose base it becomes.

        Parameters
        ----------
        layer
            That the rows are an input of.
        block
            Rows from ``first_row`` on, of which each link names some.
        """
        letters: dict[int, bytes] = {}
        all_live = Base.of(layer, block.live, samples)
        # Peers that want the same rows, as those of dense layers do, or as many of rows that are all alike,
        # are sent the same bytes.
        made: dict[tuple[bytes | int, tuple[int, bytes] | None], tuple[bytes, Base]] = {}
        alike = block.values.size > 0 and all_alike(block.values.view(np.uint32))
        for link in links:
            pair = link.peer, samples
            base = self.sent.get(pair)
            over = (base.layer, base.bits.tobytes()) if base else None
            wanted = len(link.rows) if alike else link.rows.tobytes(), over
            if wanted not in made:
                chosen = Activations(block.live, block.values[link.rows - first_row]).without_dead()
                left = all_live if chosen.live is block.live else Base.of(layer, chosen.live, samples)
                made[wanted] = encode_living(chosen, left.bits, samples, base), left
            letters[link.peer], self.sent[pair] = made[wanted]
        return letters

    def decode(self, layer: int, samples: Range, peer: int, data: bytes, rows: int) -> Activations:
        """What came from a peer, whose base it becomes.

        Raises
        ------
        MessageError
            If it is something else, or a change against another base.
        """
        pair = peer, samples
        block = decode(data, rows, samples, self.received.get(pair))
        self.received[pair] = Base.of(layer, block.live, samples)
        return block
