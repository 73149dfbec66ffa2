"""A profile from what was measured: pure arithmetic over runs' summaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from lamella.launch import is_distributed
from lamella.plan import ChannelName
from lamella.prediction import Profile, Workload
from lamella.prediction.profile import Constant, Quantiles
from lamella.prediction.times import step_times
from workflows.calibration.here import CodecMeasured, KernelMeasured

_GROUP: Mapping[ChannelName, str] = {"sns": "sns", "sqs": "sqs", "s3": "s3_channel"}
_LARGE = "-large"
_NOISE = 0.1
_LEAST_S = 1e-6
_MOST_PER_S = 1e9


@dataclass(frozen=True)
class Observation:
    """A run: what it had to do, and its ``summary.json``."""

    workload: Workload
    summary: Mapping[str, Any]

    @property
    def started_s(self) -> list[float]:
        """Of each worker, since Plan began."""
        return [worker["seconds"]["started"] for worker in self.summary["workers_detail"]]

    @property
    def joining_s(self) -> list[float]:
        """Of each worker."""
        return [
            worker["seconds"]["joined"] - worker["seconds"]["started"]
            for worker in self.summary["workers_detail"]
        ]

    @property
    def infer_s(self) -> float:
        return float(self.summary["seconds"]["infer"])

    @property
    def after_s(self) -> float:
        """From the last worker's end to Finish's."""
        seconds = self.summary["seconds"]
        return float(seconds["total"] - seconds["prepare"] - seconds["infer"])

    @property
    def computing_s(self) -> float:
        """In the kernel, of all workers."""
        return float(
            sum(step["compute_s"] for worker in self.summary["workers_detail"] for step in worker["steps"])
        )

    @property
    def reading_s(self) -> float:
        """Of the worker that waited longest for weights."""
        workers = self.summary["workers_detail"]
        return max(float(sum(step["read_s"] for step in worker["steps"])) for worker in workers)


def calibrated(
    base: Profile,
    name: str,
    today: date,
    observations: Mapping[str, Observation],
    *,
    kernel: KernelMeasured | None = None,
    codec: CodecMeasured | None = None,
    processors: int | None = None,
) -> Profile:
    """The base with everything replaced that these runs tell.

    Parameters
    ----------
    observations
        By the names that `workflows.calibration.trials.trials` gives.
    kernel, codec, processors
        Of the machine that all functions share, where they do: an embedded cloud's.
    """
    source = f"lamella calibrate, {today.isoformat()}"
    profile = base.model_copy(
        update={"name": name, "looked_up": today.isoformat(), "note": f"Measured; the rest is {base.name}'s."}
    )
    if processors is not None:
        count = Constant(value=processors, unit="vCPU", source="of the machine that all functions share")
        profile = _without_distance(profile.model_copy(update={"processors": count}), source)
    if codec:
        profile = _set(profile, "codec.encode_bytes_per_s", codec.encode_bytes_per_s, source)
        profile = _set(profile, "codec.decode_bytes_per_s", codec.decode_bytes_per_s, source)
    profile = _with_kernel(profile, observations, kernel, source)
    profile = _with_states(profile, observations, source)
    for channel in _GROUP:
        profile = _with_channel(profile, channel, observations, source)
    return profile


def _set(profile: Profile, place: str, value: float, source: str) -> Profile:
    group, _, name = place.partition(".")
    whole = getattr(profile, group)
    old = getattr(whole, name)
    if isinstance(old, Quantiles):
        # As uneven as the base's: a few runs tell no tail.
        ratio = value / old.median if old.median > 0 else 0.0
        quantiles = (old.p90 * ratio, old.p99 * ratio) if ratio else (value, value)
        new: Quantiles | Constant = Quantiles(
            median=value, p90=quantiles[0], p99=quantiles[1], source=f"{source}; tail as {old.source}"[:300]
        )
    else:
        new = Constant(value=value, unit=old.unit, source=source)
    return profile.model_copy(update={group: whole.model_copy(update={name: new})})


def _without_distance(profile: Profile, source: str) -> Profile:
    """On one machine: no state waits for a network, and what was measured of Plan has the states in it."""
    for place in ("step_functions.transition_s", "step_functions.distributed_start_s"):
        profile = _set(profile, place, 0.0, source)
    profile = _set(profile, "step_functions.distributed_end_s", 0.0, source)
    group = profile.functions.model_copy(update={"start": _steady(0.0, source)})
    profile = profile.model_copy(update={"functions": group})
    profile = _set(profile, "functions.bytes_per_s", _MOST_PER_S, f"{source}: within a machine")
    for channel in _GROUP.values():
        for name in ("send_s", "receive_s", "message_s"):
            profile = _set(profile, f"{channel}.{name}", 0.0, f"{source}: in hop and calls_per_s")
        profile = _set(profile, f"{channel}.bytes_per_s", _MOST_PER_S, f"{source}: within a machine")
    return profile


def _steady(seconds: float, source: str) -> Quantiles:
    return Quantiles(median=seconds, p90=seconds, p99=seconds, source=source)


def _with_kernel(
    profile: Profile, seen: Mapping[str, Observation], kernel: KernelMeasured | None, source: str
) -> Profile:
    """From two serial runs: what more samples add, and what is left for a few."""
    few, many = seen["few"], seen["many"]
    vcpus = min(profile.vcpus(few.workload.plan.memory_mb), 1.0)
    products = [float(run.workload.steps.sparse.sum()) for run in (few, many)]
    per_s = (products[1] - products[0]) / max((many.computing_s - few.computing_s) * vcpus, _LEAST_S)
    layers = float(few.workload.steps.layers.sum())
    layer_s = max(few.computing_s - products[0] / per_s / vcpus, 0.0) / layers
    dense = profile.kernel.dense_per_s.value * per_s / profile.kernel.sparse_per_s.value
    if kernel:
        dense = kernel.dense_per_s * per_s / kernel.sparse_per_s
    profile = _set(profile, "kernel.sparse_per_s", per_s, source)
    profile = _set(profile, "kernel.dense_per_s", dense, f"{source}: as much faster as here")
    return _set(profile, "kernel.layer_s", layer_s, source)


def _with_states(profile: Profile, seen: Mapping[str, Observation], source: str) -> Profile:
    cold, few, gang = seen["cold"], seen["few"], seen["gang"]
    functions, step_functions = profile.functions, profile.step_functions
    assert not is_distributed(gang.workload.workers)
    between_s = 3 * step_functions.transition_s.value + functions.start.median
    init_s = max(min(cold.started_s) - min(few.started_s), _LEAST_S)
    joining_s = float(np.median(few.joining_s))
    workers = gang.workload.workers
    worker_s = max(min(gang.started_s) - min(few.started_s), 0.0) / max(workers - 1, 1)
    plan_s = max(min(few.started_s) - between_s - worker_s, 0.0)
    ends_s = 2 * (step_functions.transition_s.value + functions.start.median)
    after_s = max(few.after_s - ends_s - profile.states.finish_s.value - profile.states.leave_s.value, 0.0)
    for place, value in (
        ("functions.init", init_s),
        ("s3.get", max(few.reading_s, _LEAST_S)),
        ("states.join_s", joining_s),
        ("states.plan_s", plan_s),
        ("states.worker_s", worker_s),
        ("states.collect_s", after_s),
    ):
        profile = _set(profile, place, value, source)
    if profile.processors is not None:
        # All but one of them are new, and start one after the other, as far as the processors do.
        group = profile.functions.model_copy(update={"init": _steady(init_s, source)})
        profile = profile.model_copy(update={"functions": group})
        last_s = max(gang.started_s) - min(gang.started_s) - init_s
        per_s = (workers - 1) / max(last_s, _LEAST_S)
        profile = _set(profile, "functions.scale_out_per_s", per_s, source)
        profile = _set(profile, "states.finish_s", 0.0, f"{source}: in collect_s")
        profile = _set(profile, "states.leave_s", 0.0, f"{source}: in collect_s")
        profile = _set(profile, "states.collect_s", max(few.after_s, 0.0), source)
    return profile


def _with_channel(
    profile: Profile, channel: ChannelName, seen: Mapping[str, Observation], source: str
) -> Profile:
    """Hop from the run of few workers, calls a second from that of many, which wears a machine out."""
    group = _GROUP[channel]
    runs = [run for name, run in seen.items() if name.startswith(f"{channel}-") and not name.endswith(_LARGE)]
    if not runs:
        return profile
    fewest = min(runs, key=lambda run: run.workload.workers)
    times = step_times(fewest.workload, profile)
    layers = len(np.unique(fewest.workload.steps.layer[fewest.workload.letters_in > 0]))
    busy_s = float(fewest.workload.of_workers(times.processor).max())
    handled_s = float(fewest.workload.of_workers(times.sending + times.receiving).max())
    away_s = max(fewest.infer_s - busy_s - handled_s - profile.s3.get.median, 0.0) / max(layers, 1)
    hop = getattr(profile, group).hop
    # As long as the last of its letters takes, of which the median is less.
    letters = float(fewest.workload.letters_in.max()) * fewest.workload.workers**0.5
    longest = hop.longest_of(letters) / hop.median
    if profile.processors is None:
        return _set(profile, f"{group}.hop", max(away_s / longest, _LEAST_S), source)
    times_of = getattr(profile, group).model_copy(update={"hop": _steady(away_s, source)})
    profile = profile.model_copy(update={group: times_of})
    most = max(runs, key=lambda run: run.workload.workers)
    calls = step_times(most.workload, profile).calls
    per_s = float(calls.sending.sum() + calls.receiving.sum()) / max(most.infer_s, _LEAST_S)
    profile = _set(profile, f"{group}.calls_per_s", per_s, source)
    large = seen.get(f"{channel}{_LARGE}")
    return _with_bytes(profile, group, most, large, source) if large else profile


def _with_bytes(profile: Profile, group: str, small: Observation, large: Observation, source: str) -> Profile:
    """What the bytes of larger letters add, of a worker, beside what its processors are busy longer."""

    def of_slowest(run: Observation) -> tuple[float, float]:
        busy = run.workload.of_workers(step_times(run.workload, profile).processor)
        return float(busy.max()), float(run.workload.of_workers(run.workload.bytes_out).max())

    (less_busy_s, less), (more_busy_s, more) = of_slowest(small), of_slowest(large)
    longer_s = large.infer_s - small.infer_s - (more_busy_s - less_busy_s)
    # What is within the noise is nothing that has to be known.
    if longer_s <= _NOISE * small.infer_s:
        return profile
    return _set(profile, f"{group}.bytes_per_s", (more - less) / longer_s, source)
