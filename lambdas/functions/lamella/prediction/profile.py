"""How long everything takes: profiles of constants, each with its unit and its source.

A profile is a JSON file: those that come with Lamella lie in ``lamella/profiles/``, and ``lamella calibrate``
writes others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lamella.errors import InputError
from lamella.plan import ChannelName

DEFAULT_PROFILE = "aws-2026-11"
_NORMAL = NormalDist()
_Z90, _Z99 = _NORMAL.inv_cdf(0.9), _NORMAL.inv_cdf(0.99)


class _Fixed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Constant(_Fixed):
    """A number, what it counts, and who says so."""

    value: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    unit: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]

    def scaled(self, factor: float) -> Constant:
        """The same, so many times as large."""
        return self.model_copy(update={"value": self.value * factor})


class Quantiles(_Fixed):
    """Seconds that vary: what half, nine in ten, and ninety-nine in a hundred are at most."""

    median: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    p90: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    p99: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    source: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _ascending(self) -> Quantiles:
        if not self.median <= self.p90 <= self.p99:
            raise ValueError("the median is at most p90, and p90 at most p99")
        return self

    def scaled(self, factor: float) -> Quantiles:
        """The same, so many times as long."""
        changed = {name: getattr(self, name) * factor for name in ("median", "p90", "p99")}
        return self.model_copy(update=changed)

    def at_z(self, z: float) -> float:
        """Seconds at so many standard deviations: their logarithm is linear between the three quantiles."""
        if self.median <= 0:
            return 0.0
        if z <= _Z90:
            return self.median * math.exp(z * self._slope(self.median, self.p90, _Z90))
        return self.p90 * math.exp((z - _Z90) * self._slope(self.p90, self.p99, _Z99 - _Z90))

    def longest_of(self, count: float) -> float:
        """What the longest of so many takes, half of the times (Blom's plotting position); 0 of none."""
        if count <= 0:
            return 0.0
        n = max(count, 1.0)
        return self.at_z(_NORMAL.inv_cdf((n - 0.375) / (n + 0.25)))

    @property
    def mean(self) -> float:
        """Of the distribution that `at_z` gives, by its quantiles."""
        return _mean(self)

    @staticmethod
    def _slope(low: float, high: float, width: float) -> float:
        return math.log(high / low) / width if low > 0 else 0.0


@lru_cache
def _mean(quantiles: Quantiles) -> float:
    steps = 64
    return sum(quantiles.at_z(_NORMAL.inv_cdf((i + 0.5) / steps)) for i in range(steps)) / steps


class LambdaTimes(_Fixed):
    """Of functions.

    Attributes
    ----------
    start
        From the state's begin to the handler's, of an environment that is there, beyond the transition.
    init
        INIT of a new one, with numpy and boto3.
    scale_out_per_s
        New environments that a function gets in a second.
    mb_per_vcpu, most_vcpus
        Processors by memory.
    bytes_per_s
        That a function reads, or writes, at most.
    """

    start: Quantiles
    init: Quantiles
    scale_out_per_s: Constant
    mb_per_vcpu: Constant
    most_vcpus: Constant
    bytes_per_s: Constant


class StorageTimes(_Fixed):
    """Of an object store: a GET's first byte, the answer to a small PUT, and its requests a second."""

    get: Quantiles
    put: Quantiles
    puts_per_s: Constant
    gets_per_s: Constant


class ChannelTimes(_Fixed):
    """Of what workers talk through.

    Attributes
    ----------
    hop
        From the moment a message was taken until a waiting receiver has it.
    send_s, receive_s
        A worker's call that sends, and one that receives, without what `hop` has of it.
    message_s
        Of handling a message, at both ends together.
    calls_at_once
        That a worker has under way.
    bytes_per_s
        That a worker sends, at most.
    calls_per_s
        That the service takes from all workers together.
    """

    hop: Quantiles
    send_s: Constant
    receive_s: Constant
    message_s: Constant
    calls_at_once: Constant
    bytes_per_s: Constant
    calls_per_s: Constant


class StepFunctionsTimes(_Fixed):
    """A state entered; and what a Distributed Map adds to an inline one, before and after its items."""

    transition_s: Constant
    distributed_start_s: Constant
    distributed_end_s: Constant


class KernelSpeed(_Fixed):
    """Of one vCPU.

    Attributes
    ----------
    sparse_per_s, dense_per_s
        Products of a weight and a live activation, by the kind of layer.
    layer_s
        What a layer takes besides, for each of a worker's steps.
    """

    sparse_per_s: Constant
    dense_per_s: Constant
    layer_s: Constant


class CodecSpeed(_Fixed):
    """Bytes of live activations (four each) that one vCPU encodes, or decodes, a second."""

    encode_bytes_per_s: Constant
    decode_bytes_per_s: Constant


class StateTimes(_Fixed):
    """Plan, Collect and Finish: what each takes at least, and by what it goes through.

    Attributes
    ----------
    input_bytes_per_s
        Of samples (four bytes for each feature that is not zero), that Plan reads and deals.
    worker_s
        Of Plan, for every worker's task.
    output_bytes_per_s
        Of final activations (four bytes each, alive or not) that Collect puts together.
    join_s
        Of a worker, from its handler's start until it can compute: task, manifest, input.
    leave_s
        Of a worker, from its last layer until its part is written.
    """

    plan_s: Constant
    worker_s: Constant
    input_bytes_per_s: Constant
    collect_s: Constant
    output_bytes_per_s: Constant
    finish_s: Constant
    join_s: Constant
    leave_s: Constant


class Profile(_Fixed):
    """Every constant that a prediction rests on.

    Attributes
    ----------
    looked_up
        When its sources were read, or it was measured.
    processors
        That all workers share, where those are not Lambda's; none: each has its own.
    """

    name: str
    looked_up: str
    note: str
    processors: Constant | None = None
    functions: LambdaTimes
    s3: StorageTimes
    s3_express: StorageTimes
    sns: ChannelTimes
    sqs: ChannelTimes
    s3_channel: ChannelTimes
    s3_express_channel: ChannelTimes
    step_functions: StepFunctionsTimes
    kernel: KernelSpeed
    codec: CodecSpeed
    states: StateTimes

    def channel(self, name: ChannelName) -> ChannelTimes | None:
        """Of a channel; None for one within a process."""
        return {"sns": self.sns, "sqs": self.sqs, "s3": self.s3_channel}.get(name)

    def with_s3_express(self) -> Profile:
        """As if the channel ``s3`` had its objects in S3 Express One Zone; weights stay where they are."""
        return self.model_copy(update={"s3_channel": self.s3_express_channel})

    def vcpus(self, memory_mb: int, workers: int = 1) -> float:
        """Processors that each of so many functions of so much memory has."""
        given = min(memory_mb / self.functions.mb_per_vcpu.value, self.functions.most_vcpus.value)
        return given if self.processors is None else min(given, self.processors.value / workers)

    def constants(self) -> Iterator[tuple[str, Constant | Quantiles]]:
        """All of them, by their place: ``sns.hop``."""
        for group in type(self).model_fields:
            value = getattr(self, group)
            if isinstance(value, Constant):
                yield group, value
            elif isinstance(value, BaseModel):
                for name in type(value).model_fields:
                    yield f"{group}.{name}", getattr(value, name)

    def with_scaled(self, place: str, factor: float) -> Profile:
        """The same profile, but for one constant, which is so many times as large."""
        group, _, name = place.partition(".")
        value = getattr(self, group)
        if not name:
            return self.model_copy(update={group: value.scaled(factor)})
        changed = value.model_copy(update={name: getattr(value, name).scaled(factor)})
        return self.model_copy(update={group: changed})

    def to_json(self) -> str:
        """As it lies in a file."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"


def profile_names() -> tuple[str, ...]:
    """The profiles that come with Lamella."""
    files = resources.files("lamella").joinpath("profiles").iterdir()
    return tuple(sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json")))


def load_profile(name: str = DEFAULT_PROFILE) -> Profile:
    """A profile by its name, or from a file of one's own (a path that ends with ``.json``).

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    if name.endswith(".json"):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"there is no profile {name}: make one with 'lamella calibrate --output {name}'")
        return _parsed(path.read_text(encoding="utf-8"), name, "calibrate again")
    if name not in profile_names():
        raise InputError(
            f"there is no profile {name!r}: use {', '.join(profile_names())}, "
            "or a file that 'lamella calibrate' wrote"
        )
    file = resources.files("lamella").joinpath("profiles", f"{name}.json")
    return _parsed(file.read_text(encoding="utf-8"), name, "install Lamella again")


def _parsed(text: str, name: str, cure: str) -> Profile:
    try:
        data: Any = json.loads(text)
        return Profile.model_validate(data)
    except (ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"profile {name!r} is damaged: {reason}: {cure}") from error
