"""Seconds and dollars of a plan, by formula: mean delays, every worker waiting for the slowest of its layer.

With C the processors' seconds of a layer and l those that its letters take to the last of a worker's peers,
the layer takes max(C, C / M + l) with M micro-batches: C + l with one. Where workers do not talk, each takes
its own time. Reading goes on beside all that, but for its beginning, and a worker can't end before it is
done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lamella.cost import Architecture, PriceBook, cost
from lamella.launch import is_distributed
from lamella.prediction.accounting import functions_usage, letters_usage, states_usage
from lamella.prediction.profile import Constant, Profile
from lamella.prediction.times import (
    StepTimes,
    collect_s,
    joining_s,
    leaving_s,
    plan_s,
    reading_s,
    step_times,
)
from lamella.prediction.workload import Floats, Ints, Workload
from lamella.strategies import TALKS
from lamella.usage import Usage, merge

Bound = Literal["reading", "computing", "latency", "start"]
# States that a run enters between Plan and its workers' handlers, and after they have ended.
STATES_BEFORE, STATES_AFTER = 3, 2


@dataclass(frozen=True)
class Seconds:
    """As a run's summary has them: ``prepare`` until the last worker joined, ``infer`` until the last ended.

    All since Plan's handler began.

    Attributes
    ----------
    worker
        Of the mean worker's handler, until its part is written; INIT comes before it.
    """

    total: float
    prepare: float
    infer: float
    worker: float


@dataclass(frozen=True)
class Prediction:
    """What is expected of a plan.

    Attributes
    ----------
    by_worker : (workers,)
        Seconds of each one's ``infer``.
    by_layer : (layers,)
        Seconds that each layer adds where workers talk; elsewhere what it takes the slowest worker.
    usd
        By service, and their ``total``.
    parts
        Seconds by what they go to; ``bound`` is the largest.
    assumed
        The workload's activity, the profile and the price book.
    """

    seconds: Seconds
    by_worker: Floats
    by_layer: Floats
    usage: Usage
    usd: Mapping[str, float]
    parts: Mapping[Bound, float]
    assumed: tuple[str, str, str]

    @property
    def bound(self) -> Bound:
        """What most of its seconds go to."""
        return max(self.parts, key=lambda name: self.parts[name])


@dataclass(frozen=True)
class Sensitivity:
    """Total seconds and dollars with one constant halved, and doubled, over those with it as it is."""

    constant: str
    seconds: tuple[float, float]
    usd: tuple[float, float]

    @property
    def swing(self) -> float:
        """The largest change, as a fraction."""
        return max(abs(ratio - 1) for ratio in (*self.seconds, *self.usd))


def predict(
    workload: Workload,
    profile: Profile,
    book: PriceBook,
    architecture: Architecture = "x86_64",
    *,
    cold: bool = True,
    letters: Usage | None = None,
) -> Prediction:
    """What a run of that will take and cost.

    Parameters
    ----------
    cold
        Whether every function starts in a new environment, as it does when nobody has run it for a while.
    letters
        What the channel is used for, if it is known (`lamella.channels.estimates` has it to the last
        request); else as `lamella.prediction.accounting.letters_usage` says.
    """
    times = step_times(workload, profile)
    plan = workload.plan
    by_layer, computing_s = _layers(workload, times, profile)
    reading = reading_s(workload, profile)
    path: Floats
    if plan.strategy == "pipeline":
        path = np.full(workload.workers, _pipeline_s(workload, times, profile))
    elif plan.strategy in TALKS:
        path = np.full(workload.workers, float(by_layer.sum()))
    else:
        path = workload.of_workers(times.processor)
    start = starting(workload.workers, profile, cold=cold)
    # A gang begins and ends as one: who came early waits for the last, which still has all to read.
    waits_s = start.last_s - start.mean_s if plan.strategy in TALKS else 0.0
    # Nothing is computed before the first weights are there.
    path = path + workload.read_starts * profile.s3.get.median
    leaving = leaving_s(workload, profile)
    infer = np.maximum(path, reading)
    infer = np.maximum(infer, _service_s(workload, times, profile))
    planning, collecting = plan_s(workload, profile), collect_s(workload, profile)
    states = (planning, collecting, profile.states.finish_s.value)
    init_s = profile.functions.init.mean if cold else 0.0
    joining = joining_s(workload, profile)
    prepare_s = planning + start.last_s + float(joining.max())
    worker_s = float((joining + infer + leaving).mean()) + waits_s
    after_s = float(leaving.max()) + collecting + states[2] + ending_s(workload.workers, profile, init_s)
    seconds = Seconds(prepare_s + float(infer.max()) + after_s, prepare_s, float(infer.max()), worker_s)
    usage = merge(
        [
            functions_usage(workload, worker_s, states, init_s),
            states_usage(workload),
            letters_usage(workload, times.calls) if letters is None else letters,
        ]
    )
    slowest_s = float(path.max())
    parts: dict[Bound, float] = {
        "reading": max(0.0, float(reading.max()) - slowest_s),
        "computing": min(computing_s, slowest_s),
        "latency": max(0.0, float(infer.max()) - max(computing_s, float(reading.max()))),
        "start": seconds.total - seconds.infer,
    }
    assumed = (workload.activity.name, profile.name, book.name)
    return Prediction(seconds, infer, by_layer, usage, cost(usage, book, architecture), parts, assumed)


def sensitivity(
    workload: Workload,
    profile: Profile,
    book: PriceBook,
    architecture: Architecture = "x86_64",
    *,
    cold: bool = True,
) -> list[Sensitivity]:
    """What each constant of the profile matters, those that matter most first."""

    def ratios(place: str, factor: float) -> tuple[float, float]:
        changed = predict(workload, profile.with_scaled(place, factor), book, architecture, cold=cold)
        return changed.seconds.total / base.seconds.total, changed.usd["total"] / base.usd["total"]

    base = predict(workload, profile, book, architecture, cold=cold)
    found = []
    for place, constant in profile.constants():
        if isinstance(constant, Constant) and constant.value == 0:
            continue
        (slower, dearer), (faster, cheaper) = ratios(place, 0.5), ratios(place, 2.0)
        found.append(Sensitivity(place, (slower, faster), (dearer, cheaper)))
    return sorted(found, key=lambda each: -each.swing)


@dataclass(frozen=True)
class Start:
    """From Plan's end until the mean worker's handler begins, and the last one's."""

    mean_s: float
    last_s: float


def starting(workers: int, profile: Profile, *, cold: bool) -> Start:
    """When so many workers begin."""
    functions, states = profile.functions, profile.step_functions
    before = STATES_BEFORE * states.transition_s.value
    before += states.distributed_start_s.value if is_distributed(workers) else 0.0
    mean, last = functions.start.mean, functions.start.longest_of(workers)
    if cold:
        scale_out_s = workers / functions.scale_out_per_s.value
        mean += functions.init.mean + scale_out_s / 2
        last += functions.init.longest_of(workers) + scale_out_s
    return Start(before + mean, before + last)


def ending_s(workers: int, profile: Profile, init_s: float) -> float:
    """From the last worker's end, without what Collect and Finish do themselves."""
    states = profile.step_functions
    ending = states.distributed_end_s.value if is_distributed(workers) else 0.0
    return ending + STATES_AFTER * (states.transition_s.value + profile.functions.start.median + init_s)


def _layers(workload: Workload, times: StepTimes, profile: Profile) -> tuple[Floats, float]:
    """Seconds of each layer, and those that the slowest worker's processors are busy."""
    steps, batches = workload.steps, workload.plan.micro_batches
    layers = int(steps.layer.max()) + 1
    place = steps.worker * layers + steps.layer
    cells = (workload.workers, layers)
    busy = np.bincount(place, times.processor, workload.workers * layers).reshape(cells).max(axis=0)
    if workload.plan.strategy not in TALKS:
        return busy, float(workload.of_workers(times.processor).max())
    away = np.zeros(layers)
    np.maximum.at(away, steps.layer, _away_s(workload, times, profile))
    talks = away > 0
    taken = np.where(talks, np.maximum(busy, busy / batches + away), busy)
    return taken, float(busy.sum())


def _away_s(workload: Workload, times: StepTimes, profile: Profile) -> Floats:
    """What the letters that each step needs take, from the last of its peers."""
    letters_in = workload.letters_in
    channel = profile.channel(workload.plan.channel)
    if channel is None or not len(workload.links.sender):
        return np.zeros(len(letters_in))
    together = _together(workload)
    counts = np.unique(together)
    hops = np.array([channel.hop.longest_of(float(n)) for n in counts])
    sent = np.zeros(len(letters_in))
    np.maximum.at(sent, workload.links.receiver, times.sending[workload.links.sender])
    taken = sent + hops[np.searchsorted(counts, together)] + times.receiving
    return np.where(letters_in > 0, taken, 0.0)


def _together(workload: Workload) -> Ints:
    """Of how many letters each step has to wait for the last.

    A worker waits for its own, but its peers waited for theirs, and so on: for more than its own, and for
    fewer than all of its group's. The geometric mean of both is what the simulator gives, to some 10%. In a
    pipeline there is one at a time.
    """
    letters_in, plan = workload.letters_in, workload.plan
    if plan.strategy == "pipeline":
        return letters_in
    steps = workload.steps
    place = (steps.worker // plan.row_workers) * plan.micro_batches + steps.batch
    place = place * (int(steps.layer.max()) + 1) + steps.layer
    of_all = np.bincount(place, letters_in)[place]
    return np.asarray(np.sqrt(letters_in * of_all), np.int64)


def _pipeline_s(workload: Workload, times: StepTimes, profile: Profile) -> float:
    """Until the last worker's last micro-batch is done, each worker taking one after the other."""
    steps, batches, workers = workload.steps, workload.plan.micro_batches, workload.workers
    cell = steps.worker * batches + steps.batch
    busy = np.bincount(cell, times.processor, workers * batches).reshape(workers, batches)
    away = np.zeros(workers * batches)
    np.maximum.at(away, cell, _away_s(workload, times, profile))
    arrives = away.reshape(workers, batches)
    done = np.zeros(batches)
    for worker in range(workers):
        free = 0.0
        for batch in range(batches):
            free = max(free, done[batch] + arrives[worker, batch]) + busy[worker, batch]
            done[batch] = free
    return float(done[-1])


def _service_s(workload: Workload, times: StepTimes, profile: Profile) -> float:
    """What the channel's services take for all workers' calls together."""
    channel = profile.channel(workload.plan.channel)
    if channel is None:
        return 0.0
    calls = float(times.calls.sending.sum() + times.calls.receiving.sum())
    return calls / channel.calls_per_s.value
