"""The profile ``paper``: seven constants that explain the authors' batch seconds, and how well they do.

A layer takes the mean worker its products, over what a function multiplies in a second; the hop of its last
letter; so much for each message; and its bytes, over what a function sends in a second (serialised,
compressed and carried: the paper measures them together). All are linear in what is fitted, by least squares
of the relative errors under which no constant is negative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from lamella.prediction.profile import Constant, Profile, Quantiles, load_profile
from lamella.prediction.times import handling_s
from workflows.paper import ObjectMeasurement, QueueMeasurement

Row = QueueMeasurement | ObjectMeasurement

# The official network: 32 weights a row; the authors' kernel multiplied dead samples too, as far as it stored
# them.
ROW_ENTRIES = 32
_SOURCE = "fitted to batch seconds of arXiv 2403.15195, {rows} configurations (benchmarks.paper_fit)"
_WITHIN = "in bytes_per_s and message_s: the paper does not tell them apart"


@dataclass(frozen=True)
class LayerLoad:
    """What the mean worker does for a layer."""

    products: float
    messages: float
    bytes: float
    workers: int

    @classmethod
    def of(cls, row: Row) -> LayerLoad:
        """From the row's counts; none of its seconds."""
        each = row.workers * row.layers
        messages, size = (
            (row.messages_sent, row.bytes_sent)
            if isinstance(row, QueueMeasurement)
            else (row.s3_puts, row.bytes_written)
        )
        products = ROW_ENTRIES * row.neurons * row.samples / row.workers
        return cls(products, messages / each, size / each, row.workers)

    @property
    def together(self) -> float:
        """Letters of which the last is waited for, as `lamella.prediction.closed_form` counts them."""
        return self.messages * math.sqrt(self.workers)


def batch_seconds(row: Row, profile: Profile) -> float:
    """The mean worker's, without launch and load, as the paper has them."""
    load = LayerLoad.of(row)
    times = profile.sns if isinstance(row, QueueMeasurement) else profile.s3_channel
    layer_s = (
        load.products / profile.kernel.sparse_per_s.value
        + times.hop.longest_of(load.together)
        + handling_s(times, 0.0, 0.0, load.messages, load.bytes)
    )
    return row.layers * layer_s


def fitted(rows: Sequence[Row], base: Profile | None = None) -> Profile:
    """The profile that explains these rows best; what the paper says nothing of is the base's."""
    base = base or load_profile()
    hops = {QueueMeasurement: base.sns.hop, ObjectMeasurement: base.s3_channel.hop}
    columns = []
    for row in rows:
        load, hop = LayerLoad.of(row), hops[type(row)]
        explained = [hop.longest_of(load.together) / hop.median, load.messages, load.bytes]
        queue = isinstance(row, QueueMeasurement)
        columns.append(
            [load.products, *(explained if queue else [0.0] * 3), *([0.0] * 3 if queue else explained)]
        )
    factors = _least_squares(np.array(columns), np.array([row.batch_seconds / row.layers for row in rows]))
    return _profile(base, factors, len(rows))


def errors_of_halves(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Predicted over measured less one, of each row by a profile fitted on the half that it is not in.

    The halves are every other row, in the order of channel, neurons and workers: both have of everything.
    """
    errors = np.zeros(len(rows))
    for half in (0, 1):
        profile = fitted(rows[1 - half :: 2])
        errors[half::2] = [batch_seconds(row, profile) / row.batch_seconds - 1 for row in rows[half::2]]
    return errors


def _least_squares(explained: NDArray[np.float64], seconds: NDArray[np.float64]) -> list[float]:
    # Columns of about the same size: products are billions, messages dozens.
    scale = np.maximum(np.abs(explained).max(axis=0), 1e-300)
    factors, _ = nnls(explained / scale / seconds[:, None], np.ones(len(seconds)))
    found: list[float] = (factors / scale).tolist()
    return found


def _profile(base: Profile, factors: Sequence[float], rows: int) -> Profile:
    source = _SOURCE.format(rows=rows)
    product_s, *channels = factors

    def rate(seconds: float, unit: str) -> Constant:
        return Constant(value=_rounded(1 / max(seconds, 1e-15)), unit=unit, source=source)

    changed: dict[str, object] = {
        "name": "paper",
        "looked_up": "2023",
        "note": "The authors' functions, kernel and code (Python, scipy), of 1,000 to 4,000 MB by the "
        "network's size; what their tables say nothing of is as in aws-2026-11.",
        "kernel": base.kernel.model_copy(update={"sparse_per_s": rate(product_s, "products/s")}),
        "codec": base.codec.model_copy(
            update={
                name: Constant(value=1e15, unit="bytes/s", source=_WITHIN)
                for name in ("encode_bytes_per_s", "decode_bytes_per_s")
            }
        ),
    }
    for name, (median, message_s, byte_s) in zip(
        ("sns", "s3_channel"), (channels[:3], channels[3:]), strict=True
    ):
        times = getattr(base, name)
        nothing = {each: Constant(value=0, unit="s/call", source=_WITHIN) for each in ("send_s", "receive_s")}
        changed[name] = times.model_copy(
            update=nothing
            | {
                "hop": _hop(times.hop, median, source),
                "message_s": Constant(value=_rounded(message_s), unit="s/message", source=source),
                "bytes_per_s": rate(byte_s, "bytes/s"),
            }
        )
    return base.model_copy(update=changed)


def _hop(shape: Quantiles, median_s: float, source: str) -> Quantiles:
    """So long, and as uneven as another."""
    scaled = shape.scaled(median_s / shape.median)
    values = {name: _rounded(getattr(scaled, name)) for name in ("median", "p90", "p99")}
    return Quantiles(**values, source=f"{source}; p90 and p99 as many times the median as in {DEFAULT_SHAPE}")


DEFAULT_SHAPE = "aws-2026-11"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
