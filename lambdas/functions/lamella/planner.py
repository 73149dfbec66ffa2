"""Which strategy, channel, workers and memory a run gets; what can't be had is refused before any launch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import cast

from lamella.errors import PlanError
from lamella.events import RunRequest
from lamella.launch import MAX_SNS_WORKERS, MAX_WORKERS
from lamella.manifest import Manifest
from lamella.plan import ChannelName, Plan, StrategyName
from lamella.strategies import TALKS

DEFAULT_WORKERS = 8
# What is looked at where nothing is asked for, in this order.
ORDER: tuple[StrategyName, ...] = ("serial", "samples", "pipeline", "hybrid", "rows")
CHANNELS: tuple[ChannelName, ...] = ("sns", "sqs", "s3")
MICRO_BATCHES = (1, 2, 4)
MOST_WORKERS = 256


@dataclass(frozen=True)
class Capacity:
    """What is deployed and allowed.

    Attributes
    ----------
    slots
        Deployed slots of the channel sns.
    concurrency
        Workers that may run at the same time: the account's Lambda executions, less what is kept free.
    memory_sizes_mb
        Of the deployed worker functions, ascending.
    max_workers
        Of one run, as the stack was deployed.
    """

    slots: int
    concurrency: int
    memory_sizes_mb: Sequence[int]
    max_workers: int = MAX_WORKERS


def choose(request: RunRequest, manifest: Manifest, samples: int, capacity: Capacity) -> Plan:
    """The plainest plan for a request; ``memory_mb`` is the smallest deployed, or what was asked for.

    Under ``hybrid``, groups are as many, and so as small, as they can be: see `regrouped`.

    Raises
    ------
    PlanError
        If what was asked for can't be had; says why, and what can.
    """
    strategy = _strategy(request, manifest)
    workers = _workers(request, manifest, strategy, samples)
    if workers == 1:
        strategy = "serial"
    groups = 1
    if strategy == "hybrid":
        groups = _groups(manifest, workers, samples)[0]
    if workers > capacity.max_workers:
        raise PlanError(
            f"{workers} workers are more than the {capacity.max_workers} that a run may have here: ask for "
            f"fewer, or deploy with more (parameter MaxWorkers, at most {MAX_WORKERS})"
        )
    if workers > capacity.concurrency:
        raise PlanError(
            f"{workers} workers can't run at once: the account runs {capacity.concurrency} beside what it "
            "keeps free (parameter KeepFree): ask for fewer, or have the quota raised"
        )
    channel = _channel(request, workers, capacity) if strategy in TALKS else "none"
    sizes = list(capacity.memory_sizes_mb)
    if request.memory_mb is not None and request.memory_mb not in sizes:
        have = ", ".join(str(size) for size in sizes)
        raise PlanError(f"no worker of {request.memory_mb} MB is deployed: use {have}")
    memory_mb = request.memory_mb or sizes[0]
    plan = Plan(strategy, channel, workers, memory_mb, samples, request.micro_batches or 1, groups)
    share = samples // plan.sample_shares
    if plan.micro_batches > share:
        raise PlanError(
            f"{plan.micro_batches} micro-batches are more than the {share} samples of a worker: "
            f"ask for at most {share}"
        )
    return plan


def possible(request: RunRequest, manifest: Manifest, samples: int, capacity: Capacity) -> list[Plan]:
    """Every plan that a request leaves open, the simpler first; their memory is the smallest deployed.

    Raises
    ------
    PlanError
        If there is none; says why `choose` would not have the plainest.
    """
    plans: dict[Plan, None] = {}
    for strategy, workers, channel, batches in _open(request, manifest, samples, capacity):
        narrowed = {"strategy": strategy, "workers": workers, "channel": channel, "micro_batches": batches}
        try:
            plan = choose(request.model_copy(update=narrowed), manifest, samples, capacity)
        except PlanError:
            continue
        plans |= dict.fromkeys(regrouped(plan, manifest))
    if not plans:
        choose(request, manifest, samples, capacity)
        raise PlanError("no plan keeps to all of that: leave out strategy, channel, workers or micro_batches")
    return list(plans)


def _open(
    request: RunRequest, manifest: Manifest, samples: int, capacity: Capacity
) -> Iterator[tuple[StrategyName, int | None, str, int]]:
    """Strategy, workers, channel and micro-batches that are not said otherwise."""
    strategies = [cast("StrategyName", request.strategy)]
    if request.strategy == "auto":
        # Who names a channel wants workers that talk.
        strategies = [name for name in ORDER if request.channel == "auto" or name in TALKS]
    for strategy in strategies:
        talks = strategy in TALKS
        channels = CHANNELS if request.channel == "auto" and talks else (request.channel,)
        batches = MICRO_BATCHES if talks else (1,)
        if request.micro_batches is not None:
            batches = (request.micro_batches,)
        counts = _counts(strategy, manifest, samples, capacity)
        for workers in counts if request.workers is None else (request.workers,):
            yield from ((strategy, workers, *each) for each in product(channels, batches))


def _counts(strategy: StrategyName, manifest: Manifest, samples: int, capacity: Capacity) -> list[int]:
    """Numbers of workers that are looked at where none is asked for."""
    most = min(capacity.max_workers, capacity.concurrency, MOST_WORKERS)
    cuts = sorted(manifest.cuts)
    if strategy == "serial":
        return [1]
    if strategy == "rows":
        found = [p for p in cuts if p <= most]
    elif strategy == "hybrid":
        found = sorted({p * share for p in cuts for share in _doubled(2, min(most // p, samples))})
    else:
        found = _doubled(2, min(most, samples if strategy == "samples" else len(manifest.layers)))
    # What can't be had is refused by `choose`, which says why.
    return found or [1]


def _doubled(first: int, most: int) -> list[int]:
    found = []
    while first <= most:
        found.append(first)
        first *= 2
    return found


def regrouped(plan: Plan, manifest: Manifest) -> list[Plan]:
    """The plan, and those with larger groups, whose workers have less of the model each; smallest first.

    Only under ``hybrid`` is there more than one.
    """
    if plan.strategy != "hybrid":
        return [plan]
    return [replace(plan, groups=groups) for groups in _groups(manifest, plan.workers, plan.samples)]


def check_fits(need_bytes: int, sizes_mb: Sequence[int], plan: Plan) -> None:
    """Refuse workers that need more memory than the largest size has.

    Raises
    ------
    PlanError
        Saying what would help.
    """
    if sizes_mb[-1] << 20 >= need_bytes:
        return
    ways = "ask for more workers or fewer samples"
    if plan.strategy == "pipeline" and plan.micro_batches > 1:
        ways = "leave micro_batches out, since with them it keeps its block of layers, " + ways
    raise PlanError(
        f"a worker would need {need_bytes >> 20} MB and the largest deployed has {sizes_mb[-1]}: "
        f"{ways}, or deploy a larger one (parameter LargeWorkerMemory)"
    )


def _strategy(request: RunRequest, manifest: Manifest) -> StrategyName:
    if request.strategy != "auto":
        return cast("StrategyName", request.strategy)
    if request.workers == 1 or not (manifest.cuts or request.workers):
        return "serial"
    return "rows"


def _channel(request: RunRequest, workers: int, capacity: Capacity) -> ChannelName:
    if request.channel == "auto":
        return "sns" if workers <= min(capacity.slots, MAX_SNS_WORKERS) else "sqs"
    if request.channel == "sns" and workers > MAX_SNS_WORKERS:
        raise PlanError(
            f"sns serves up to {MAX_SNS_WORKERS} workers, not {workers}: ask for channel sqs or s3"
        )
    if request.channel == "sns" and workers > capacity.slots:
        raise PlanError(
            f"{workers} workers need {workers} slots and {capacity.slots} are deployed: "
            "ask for fewer, for channel sqs or s3, or deploy more (parameter SlotGroups)"
        )
    return cast("ChannelName", request.channel)


def _workers(request: RunRequest, manifest: Manifest, strategy: StrategyName, samples: int) -> int:
    asked = request.workers
    if strategy == "serial":
        if asked not in {None, 1}:
            raise PlanError(f"serial has one worker, not {asked}: leave workers out, or use samples or rows")
        return 1
    if strategy == "samples":
        if asked is not None and asked > samples:
            raise PlanError(f"{asked} workers are more than the {samples} samples: ask for at most {samples}")
        return asked or min(DEFAULT_WORKERS, samples)
    if strategy == "pipeline":
        layers = len(manifest.layers)
        if asked is not None and asked > layers:
            raise PlanError(f"{asked} workers are more than the {layers} layers: ask for at most {layers}")
        return asked or min(DEFAULT_WORKERS, layers)
    if strategy == "hybrid":
        return _hybrid_workers(manifest, asked, samples)
    narrowest = min(layer.rows for layer in manifest.layers)
    if asked is not None and asked > narrowest:
        raise PlanError(
            f"{asked} workers are more than the {narrowest} rows of the narrowest layer: ask for fewer"
        )
    cuts = sorted(manifest.cuts)
    wanted = asked or max((p for p in cuts if p <= DEFAULT_WORKERS), default=1)
    if wanted > 1 and wanted not in cuts:
        have = ", ".join(str(p) for p in cuts) or "none"
        raise PlanError(
            f"the model has no cut for {wanted} workers (it has: {have}): ask for one of those, "
            f"or run 'lamella prep' with --workers {wanted}"
        )
    return wanted


def _hybrid_workers(manifest: Manifest, asked: int | None, samples: int) -> int:
    if asked == 1:
        return 1
    cuts = sorted(manifest.cuts)
    if not cuts and asked is None:
        return 1
    if asked is None:
        smallest = cuts[0]
        return smallest * max(1, min(DEFAULT_WORKERS // smallest, samples))
    if not _groups(manifest, asked, samples):
        have = ", ".join(str(p) for p in cuts) or "none"
        raise PlanError(
            f"{asked} workers are no groups that share the rows (the model has cuts for: {have}) and the "
            f"{samples:,} samples: ask for a multiple of one of those, or run 'lamella prep' with --workers P"
        )
    return asked


def _groups(manifest: Manifest, workers: int, samples: int) -> list[int]:
    """How many groups the workers can be, the most first: each as large as some cut, and with samples."""
    return [workers // p for p in sorted(manifest.cuts) if workers % p == 0 and workers // p <= samples]
