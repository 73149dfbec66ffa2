"""A run with a clock instead of a cloud: the same steps and letters, with late starts, tails and stragglers.

Events are processed in the order of their time: a step begins when its worker is free, its letters are there
and its weights are read; its letters leave one step after the other, while the worker goes on. All chance
comes from one seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lamella.cost import Architecture, PriceBook, cost
from lamella.launch import is_distributed
from lamella.prediction.accounting import functions_usage, letters_usage, states_usage
from lamella.prediction.closed_form import STATES_AFTER, STATES_BEFORE, Seconds
from lamella.prediction.profile import Profile, Quantiles
from lamella.prediction.times import (
    StepTimes,
    collect_s,
    joining_s,
    leaving_s,
    plan_s,
    step_times,
)
from lamella.prediction.workload import Floats, Ints, Workload
from lamella.strategies import TALKS
from lamella.usage import Usage, merge


@dataclass(frozen=True)
class Disturbance:
    """What may go wrong beside the profile's tails.

    Attributes
    ----------
    straggler_share
        Of the workers, how many are slow, each by its own luck.
    slowdown
        How many times as long such a one computes.
    """

    straggler_share: float = 0.01
    slowdown: float = 2.0


NO_DISTURBANCE = Disturbance(0.0, 1.0)


@dataclass(frozen=True)
class Simulation:
    """How a run went.

    Attributes
    ----------
    joined_s, ended_s : (workers,)
        Since Plan began: when each could compute, and when it had computed all.
    waited_s : (workers,)
        For letters.
    stragglers
        Workers that were slow.
    """

    seconds: Seconds
    usd: Mapping[str, float]
    usage: Usage
    joined_s: Floats
    ended_s: Floats
    waited_s: Floats
    stragglers: tuple[int, ...]
    seed: int


def simulate(
    workload: Workload,
    profile: Profile,
    book: PriceBook,
    seed: int = 0,
    disturbance: Disturbance = NO_DISTURBANCE,
    architecture: Architecture = "x86_64",
    *,
    cold: bool = True,
    letters: Usage | None = None,
) -> Simulation:
    """One run of that, as chance has it; the same seed gives the same run.

    Parameters
    ----------
    cold, letters
        As `lamella.prediction.closed_form.predict` takes them.
    """
    random = np.random.default_rng(seed)
    workers, talks = workload.workers, workload.plan.strategy in TALKS
    planning_s = plan_s(workload, profile)
    start = _starts(workload, profile, random, planning_s, cold=cold)
    slow = random.random(workers) < disturbance.straggler_share
    pace = np.where(slow, disturbance.slowdown, 1.0)
    ready = start.handler_s + joining_s(workload, profile)
    # Those that talk begin together.
    joined = np.full(workers, ready.max()) if talks else ready
    times = step_times(workload, profile)
    ended, waited = _walk(workload, profile, times, random, joined, ready, pace)
    left = ended + leaving_s(workload, profile) * pace
    states_s = (planning_s, collect_s(workload, profile), profile.states.finish_s.value)
    after_s = states_s[1] + states_s[2] + _after_s(workload, profile, random, cold=cold)
    worker_s = float((left - start.handler_s).mean())
    seconds = Seconds(
        float(left.max()) + after_s, float(joined.max()), float(ended.max() - joined.max()), worker_s
    )
    usage = merge(
        [
            functions_usage(workload, worker_s, states_s, start.mean_init_s),
            states_usage(workload),
            letters_usage(workload, times.calls) if letters is None else letters,
        ]
    )
    return Simulation(
        seconds,
        cost(usage, book, architecture),
        usage,
        joined,
        ended,
        waited,
        tuple(np.flatnonzero(slow).tolist()),
        seed,
    )


@dataclass(frozen=True)
class _Starts:
    handler_s: Floats
    mean_init_s: float


def drawn(quantiles: Quantiles, random: np.random.Generator, count: int) -> Floats:
    """So many seconds as chance has them."""
    z = random.standard_normal(count)
    return np.array([quantiles.at_z(each) for each in z]) if count < 64 else _drawn_fast(quantiles, z)


def _drawn_fast(quantiles: Quantiles, z: Floats) -> Floats:
    """As many calls of `Quantiles.at_z`: its logarithm is linear in pieces."""
    if quantiles.median <= 0:
        return np.zeros(len(z))
    knots = np.array([-8.0, 0.0, 1.2815515655446004, 2.3263478740408408, 8.0])
    logs = np.log([quantiles.at_z(knot) for knot in knots])
    return np.asarray(np.exp(np.interp(z, knots, logs)), np.float64)


def _starts(
    workload: Workload, profile: Profile, random: np.random.Generator, planning_s: float, *, cold: bool
) -> _Starts:
    functions, states = profile.functions, profile.step_functions
    workers = workload.workers
    before = planning_s + STATES_BEFORE * states.transition_s.value
    before += states.distributed_start_s.value if is_distributed(workers) else 0.0
    handler = before + drawn(functions.start, random, workers)
    if not cold:
        return _Starts(handler, 0.0)
    inits = drawn(functions.init, random, workers)
    queue = random.permutation(workers) / functions.scale_out_per_s.value
    return _Starts(handler + inits + queue, float(inits.mean()))


def _after_s(workload: Workload, profile: Profile, random: np.random.Generator, *, cold: bool) -> float:
    functions, states = profile.functions, profile.step_functions
    starting = drawn(functions.start, random, STATES_AFTER).sum()
    starting += drawn(functions.init, random, STATES_AFTER).sum() if cold else 0.0
    ending = states.distributed_end_s.value if is_distributed(workload.workers) else 0.0
    return float(starting) + ending + STATES_AFTER * states.transition_s.value


def _walk(
    workload: Workload,
    profile: Profile,
    times: StepTimes,
    random: np.random.Generator,
    joined: Floats,
    ready: Floats,
    pace: Floats,
) -> tuple[Floats, Floats]:
    """When each worker's last step ends, and how long it waited for letters."""
    steps, links = workload.steps, workload.links
    channel = profile.channel(workload.plan.channel)
    busy = (times.processor * pace[steps.worker]).tolist()
    receiving, sending = times.receiving.tolist(), times.sending.tolist()
    read_by = _read_by(workload, profile, ready).tolist()
    calls = (times.calls.sending + times.calls.receiving).tolist()
    call_s = 1 / channel.calls_per_s.value if channel else 0.0
    order = np.argsort(links.sender, kind="stable")
    bounds = np.searchsorted(links.sender[order], np.arange(len(busy) + 1)).tolist()
    targets = links.receiver[order].tolist()
    hops = drawn(channel.hop, random, len(order)).tolist() if channel else [0.0] * len(order)
    missing = workload.letters_in.tolist()
    arrived = [0.0] * len(busy)
    of, last = steps.worker.tolist(), _last_steps(steps.worker, workload.workers)
    at = _first_steps(steps.worker, workload.workers).tolist()
    free = joined.tolist()
    outbox = [0.0] * workload.workers
    waited = [0.0] * workload.workers
    service_s = 0.0

    def begin_s(step: int) -> float:
        letters_s = arrived[step] + receiving[step] if arrived[step] else 0.0
        return float(max(free[of[step]], letters_s, read_by[step]))

    events = [(begin_s(step), step) for step in at if not missing[step]]
    heapq.heapify(events)
    while events:
        now_s, step = heapq.heappop(events)
        worker = of[step]
        if arrived[step]:
            waited[worker] += max(0.0, arrived[step] + receiving[step] - free[worker])
        free[worker] = ended_s = now_s + busy[step]
        first, stop = bounds[step], bounds[step + 1]
        if call_s:
            service_s = max(service_s, ended_s) + calls[step] * call_s
        if first < stop:
            outbox[worker] = sent_s = (
                max(outbox[worker], ended_s, service_s if call_s else 0.0) + sending[step]
            )
            for link in range(first, stop):
                target = targets[link]
                arrived[target] = max(arrived[target], sent_s + hops[link])
                missing[target] -= 1
                if not missing[target] and at[of[target]] == target:
                    heapq.heappush(events, (begin_s(target), target))
        if step < last[worker]:
            at[worker] = step + 1
            if not missing[step + 1]:
                heapq.heappush(events, (begin_s(step + 1), step + 1))
        else:
            at[worker] = -1
    return np.array(free), np.array(waited)


def _read_by(workload: Workload, profile: Profile, ready: Floats) -> Floats:
    """When each step's weights are there, read in the order of the steps once a worker knows its task."""
    steps = workload.steps
    read = np.cumsum(steps.read_bytes)
    firsts = _first_steps(steps.worker, workload.workers)
    before = (read - steps.read_bytes)[firsts][steps.worker]
    seconds = (read - before) / profile.functions.bytes_per_s.value
    return ready[steps.worker] + workload.read_starts * profile.s3.get.median + seconds


def _first_steps(worker: Ints, workers: int) -> Ints:
    return np.searchsorted(worker, np.arange(workers))


def _last_steps(worker: Ints, workers: int) -> list[int]:
    last: list[int] = (np.searchsorted(worker, np.arange(workers), side="right") - 1).tolist()
    return last
