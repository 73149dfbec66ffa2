"""The plan that a run gets, and what is said of it: pure, for Plan and for the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lamella.cut import Cut
from lamella.errors import PlanError
from lamella.events import RunRequest
from lamella.manifest import Manifest
from lamella.planner import Capacity, possible
from lamella.prediction.candidates import Candidate, Candidates, Terms, candidates, described
from lamella.prediction.workload import Activity
from lamella.records import Alternative, Predicted


def activity_of(layers: int, samples: int, features: int, nonzero: int) -> Activity:
    """What is assumed of a batch of which that many cells are not zero."""
    density = nonzero / max(samples * features, 1)
    return replace(Activity.all_alive(layers), input_density=density)


def offered(
    request: RunRequest,
    manifest: Manifest,
    samples: int,
    cut_of: Callable[[int], Cut],
    capacity: Capacity,
    terms: Terms,
) -> Candidates:
    """Everything that a request leaves open, predicted.

    Raises
    ------
    PlanError
        If what was asked for can't be had, or fits no deployed memory.
    """
    plans = possible(request, manifest, samples, capacity)
    return candidates(plans, manifest, cut_of, capacity, terms, request.memory_mb)


def taken(found: Candidates, request: RunRequest, most_usd: float = 0.0) -> Candidate:
    """The one that a run gets.

    Parameters
    ----------
    most_usd
        What a run may cost where it runs; 0: no bound.

    Raises
    ------
    PlanError
        If none keeps to the request's deadline and budget, or it is predicted to cost more than it may.
    """
    candidate = found.choose(request.deadline_s, request.budget_usd)
    usd, cheapest = candidate.offer.usd, found.front[-1]
    if most_usd and usd > most_usd:
        cheaper = (
            f"ask for a budget_usd of {most_usd:g} to get {described(cheapest.plan)} "
            f"(${cheapest.offer.usd:.2g}, {cheapest.offer.seconds:.0f} s)"
            if cheapest.offer.usd <= most_usd
            else "run fewer samples at a time"
        )
        raise PlanError(
            f"{described(candidate.plan)} is predicted to cost ${usd:.2g}, more than the ${most_usd:g} that "
            f"a run may cost here: {cheaper}, or deploy with a larger one (parameter MaxRunCost)"
        )
    return candidate


def predicted(found: Candidates, candidate: Candidate) -> Predicted:
    """What plan.json and the summary say of it."""
    prediction = candidate.prediction
    cheaper, faster = found.beside(candidate)
    return Predicted(
        seconds=prediction.seconds.total,
        prepare_s=prediction.seconds.prepare,
        infer_s=prediction.seconds.infer,
        usd=dict(prediction.usd),
        bound=prediction.bound,
        assumed=prediction.assumed,
        cheaper=_alternative(cheaper),
        faster=_alternative(faster),
    )


def _alternative(candidate: Candidate | None) -> Alternative | None:
    if candidate is None:
        return None
    return Alternative(described(candidate.plan), candidate.offer.seconds, candidate.offer.usd)
