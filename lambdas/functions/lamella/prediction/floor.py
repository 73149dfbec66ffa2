"""What a plan takes and costs at least: a bound that needs no tasks, in microseconds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lamella.channels.packing import BATCH_ENTRIES
from lamella.cost import Architecture, PriceBook, cost
from lamella.cut import Cut
from lamella.manifest import Manifest
from lamella.plan import Plan
from lamella.prediction.choice import Offer
from lamella.prediction.closed_form import ending_s, starting
from lamella.prediction.profile import Profile
from lamella.prediction.workload import Activity, Ints
from lamella.strategies import TALKS
from lamella.usage import Count, Usage, step_functions_usage

# What a request of a channel's is, and how many letters it carries at most.
_CARRIERS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "sns": (("sqs.receive_message", BATCH_ENTRIES),),
    "sqs": (("sqs.send_message_batch", 1), ("sqs.receive_message", BATCH_ENTRIES)),
    "s3": (("s3.get_object", 1),),
}


def letters_by_layer(plan: Plan, cut: Cut | None, layers: int) -> Ints:
    """Of a group's workers for one micro-batch, before each layer that can't begin without any."""
    if cut is not None:
        between = cut.links[:, 1] != cut.links[:, 2]
        found = np.bincount(cut.links[between, 0], minlength=layers)
        return found[found > 0].astype(np.int64)
    return np.ones(plan.workers - 1 if plan.strategy == "pipeline" else 0, np.int64)


def least_offer(
    plan: Plan,
    manifest: Manifest,
    letters: Ints,
    activity: Activity,
    profile: Profile,
    book: PriceBook,
    architecture: Architecture = "x86_64",
) -> Offer:
    """At least so many seconds and dollars; `lamella.prediction.closed_form.predict` gives no less.

    Parameters
    ----------
    letters
        As `letters_by_layer`.
    """
    states, init_s = profile.states, profile.functions.init.mean
    start = starting(plan.workers, profile, cold=True)
    infer_s = _computing_s(plan, manifest, activity, profile) + _hops_s(plan, letters, profile)
    around_s = states.plan_s.value + states.worker_s.value * plan.workers + start.last_s
    around_s += states.collect_s.value + states.finish_s.value + states.join_s.value + states.leave_s.value
    around_s += ending_s(plan.workers, profile, init_s)
    worker_s = infer_s + init_s + states.join_s.value + states.leave_s.value
    worker_s += start.last_s - start.mean_s if plan.strategy in TALKS else 0.0
    usage = Usage({"lambda.invoke": Count(plan.workers, worker_s * plan.memory_mb / 1024 * plan.workers)})
    usage += step_functions_usage(plan.workers)
    total = int(letters.sum()) * plan.groups * plan.micro_batches
    for name, most in _CARRIERS.get(plan.channel, ()):
        usage += Usage({name: Count(billed=total / most)})
    return Offer(around_s + infer_s, cost(usage, book, architecture)["total"])


def _hops_s(plan: Plan, letters: Ints, profile: Profile) -> float:
    """As the closed form has them for the mean worker, than which some worker of each layer has no fewer."""
    channel = profile.channel(plan.channel)
    if channel is None:
        return 0.0
    together = letters // 1 if plan.strategy == "pipeline" else np.floor(letters / np.sqrt(plan.row_workers))
    counts, times = np.unique(np.maximum(together, 1), return_counts=True)
    return float(sum(channel.hop.longest_of(float(n)) * k for n, k in zip(counts, times, strict=True)))


def _computing_s(plan: Plan, manifest: Manifest, activity: Activity, profile: Profile) -> float:
    """Of one worker, if all had the same share of everything and micro-batches hid all but one."""
    kernel = profile.kernel
    products_s = 0.0
    for layer, live in zip(manifest.layers, activity.live, strict=False):
        speed = kernel.dense_per_s if layer.dense is not None else kernel.sparse_per_s
        products_s += layer.nnz * live * plan.samples / speed.value
    hidden = plan.micro_batches if plan.channel != "none" else 1
    return products_s / profile.vcpus(plan.memory_mb, plan.workers) / plan.workers / hidden
