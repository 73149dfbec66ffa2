"""What steps take under a profile: the arithmetic that the closed form, the simulator and the fit share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lamella.channels.estimates import MISSES, RECEIVES
from lamella.channels.packing import BATCH_ENTRIES
from lamella.channels.wire import SNS_BATCH_BYTES
from lamella.plan import ChannelName
from lamella.prediction.profile import ChannelTimes, Profile
from lamella.prediction.workload import Floats, Workload

_Number = TypeVar("_Number", float, NDArray[np.float64])


@dataclass(frozen=True)
class Calls:
    """Of each step, at its worker's end of the channel."""

    sending: Floats
    receiving: Floats


def calls_of(channel: ChannelName, letters_out: Floats, bytes_out: Floats, letters_in: Floats) -> Calls:
    """How often a channel's services are called for steps that send and receive so much."""
    sends = letters_out > 0
    if channel == "sns":
        batches = np.maximum(np.ceil(letters_out / BATCH_ENTRIES), np.ceil(bytes_out / SNS_BATCH_BYTES))
        # What fits no message goes by one object, to which the messages point.
        large = bytes_out > SNS_BATCH_BYTES * np.maximum(letters_out, 1)
        sending = np.where(large, np.ceil(letters_out / BATCH_ENTRIES) + 1, batches)
    elif channel == "sqs":
        sending = letters_out
    else:
        sending = sends.astype(np.float64)
    if channel == "s3":
        receiving = letters_in + MISSES * (letters_in > 0)
    else:
        receiving = np.minimum(letters_in, RECEIVES - 1 + np.ceil(letters_in / BATCH_ENTRIES))
    return Calls(sending.astype(np.float64), receiving.astype(np.float64))


def handling_s(
    times: ChannelTimes, sending: _Number, receiving: _Number, letters: _Number, size_bytes: _Number
) -> _Number:
    """What a worker's calls, messages and bytes take, on their way but for the hop itself.

    Parameters
    ----------
    letters
        That it sends, and as many that it receives.
    size_bytes
        That it sends: they are received while they are sent.
    """
    calls = sending * times.send_s.value + receiving * times.receive_s.value
    return (
        calls / times.calls_at_once.value
        + letters * times.message_s.value
        + size_bytes / times.bytes_per_s.value
    )


@dataclass(frozen=True)
class StepTimes:
    """Seconds of each step.

    Attributes
    ----------
    processor
        Of its worker's processors: the layers, and the letters encoded and decoded.
    sending, receiving
        Of calls, and of bytes where they are sent; what is sent is under way while the worker goes on.
    """

    processor: Floats
    sending: Floats
    receiving: Floats
    calls: Calls


def step_times(workload: Workload, profile: Profile) -> StepTimes:
    """Of every step of a workload."""
    steps, plan = workload.steps, workload.plan
    vcpus = profile.vcpus(plan.memory_mb, workload.workers)
    kernel, codec = profile.kernel, profile.codec
    # Layers go by threads, all else by one; no thread has more than a processor.
    one = min(vcpus, 1.0)
    processor = (
        (steps.sparse / kernel.sparse_per_s.value + steps.dense / kernel.dense_per_s.value) / vcpus
        + steps.layers * kernel.layer_s.value / one
        + steps.encode_bytes / codec.encode_bytes_per_s.value / one
        + steps.decode_bytes / codec.decode_bytes_per_s.value / one
    )
    out, into = workload.letters_out.astype(np.float64), workload.letters_in.astype(np.float64)
    calls = calls_of(plan.channel, out, workload.bytes_out, into)
    times = profile.channel(plan.channel)
    if times is None:
        nothing = np.zeros(len(processor))
        return StepTimes(processor, nothing, nothing, calls)
    none = np.zeros(len(processor))
    return StepTimes(
        processor,
        sending=handling_s(times, calls.sending, none, out / 2, workload.bytes_out),
        receiving=handling_s(times, none, calls.receiving, into / 2, none),
        calls=calls,
    )


def reading_s(workload: Workload, profile: Profile) -> Floats:
    """What each worker takes to read its weights, if it did nothing else."""
    read = workload.of_workers(workload.steps.read_bytes)
    return workload.read_starts * profile.s3.get.median + read / profile.functions.bytes_per_s.value


def plan_s(workload: Workload, profile: Profile) -> float:
    """Of Plan's handler."""
    states = profile.states
    return (
        states.plan_s.value
        + states.worker_s.value * workload.workers
        + float(workload.input_bytes.sum()) / states.input_bytes_per_s.value
    )


def collect_s(workload: Workload, profile: Profile) -> float:
    """Of Collect's handler."""
    states = profile.states
    return states.collect_s.value + float(workload.output_bytes.sum()) / states.output_bytes_per_s.value


def joining_s(workload: Workload, profile: Profile) -> Floats:
    """Of each worker, from its handler's start until it can compute."""
    return profile.states.join_s.value + workload.input_bytes / profile.functions.bytes_per_s.value


def leaving_s(workload: Workload, profile: Profile) -> Floats:
    """Of each worker, from its last layer until its part is written."""
    live = workload.activity.live[-1]
    return profile.states.leave_s.value + workload.output_bytes * live / profile.functions.bytes_per_s.value
