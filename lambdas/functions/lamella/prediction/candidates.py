"""Every plan that a request leaves open, each with what it would take and cost, and the one to take.

Pure: what there is to know of the model, the capacity, the profile and the prices is passed in. A plan whose
least seconds and dollars are both no better than another's is not looked at further: it can't be on the
front. Plans with few letters come first, and once some fit, those with more are looked at only up to a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from lamella.cost import Architecture, PriceBook
from lamella.cut import Cut
from lamella.errors import PlanError
from lamella.manifest import Manifest
from lamella.plan import Plan, Task
from lamella.planner import Capacity, check_fits
from lamella.prediction.choice import Offer, chosen, front
from lamella.prediction.closed_form import Prediction, predict
from lamella.prediction.floor import least_offer, letters_by_layer
from lamella.prediction.profile import Profile
from lamella.prediction.workload import Activity, Ints, Workload, of_tasks
from lamella.strategies import NEEDS_CUT, tasks_of

WORKER_TIMEOUT_S = 900.0  # of a function (Lambda quotas)
# Letters of all plans that are looked at, beside the first that fit: each takes some 10 us to count.
MOST_LETTERS = 100_000
# Of a plan that is predicted though it can't be on the front, where all are asked for.
FEW_LETTERS = 10_000


@dataclass(frozen=True)
class Terms:
    """What plans are judged by.

    Attributes
    ----------
    timeout_s
        Of a worker.
    thorough
        Whether also those are predicted that can't be on the front; the choice is the same.
    """

    activity: Activity
    profile: Profile
    book: PriceBook
    architecture: Architecture = "x86_64"
    timeout_s: float = WORKER_TIMEOUT_S
    thorough: bool = False


@dataclass(frozen=True)
class Candidate:
    """A plan that fits, its tasks, and what is expected of it."""

    plan: Plan
    prediction: Prediction
    tasks: list[Task] = field(repr=False)
    workload: Workload = field(repr=False)

    @property
    def offer(self) -> Offer:
        """Its seconds and dollars."""
        return Offer(self.prediction.seconds.total, self.prediction.usd["total"])


@dataclass(frozen=True)
class Candidates:
    """Plans that fit, and which of them are as fast and as cheap as none other.

    Attributes
    ----------
    front
        The fastest first.
    """

    all: tuple[Candidate, ...]
    front: tuple[Candidate, ...]

    def choose(self, deadline_s: float | None = None, budget_usd: float | None = None) -> Candidate:
        """The one to take, as `lamella.prediction.choice.chosen`.

        Raises
        ------
        PlanError
            If none keeps to what is asked; says what the fastest and the cheapest are predicted to take.
        """
        offers = [candidate.offer for candidate in self.front]
        number = chosen(offers, deadline_s=deadline_s, budget_usd=budget_usd)
        if number is None:
            asked = [f"{deadline_s:g} s"] if deadline_s is not None else []
            asked += [f"${budget_usd:g}"] if budget_usd is not None else []
            fast, cheap = self.front[0], self.front[-1]
            raise PlanError(
                f"no plan keeps to {' and '.join(asked)}: the fastest is {described(fast.plan)}, predicted "
                f"at {_priced(fast.offer)}, the cheapest {described(cheap.plan)}, at {_priced(cheap.offer)}: "
                "ask for a later deadline or a larger budget"
            )
        return self.front[number]

    def beside(self, taken: Candidate) -> tuple[Candidate | None, Candidate | None]:
        """The next cheaper and the next faster on the front; None where there is none."""
        cheaper = [each for each in self.front if each.offer.usd < taken.offer.usd]
        faster = [each for each in self.front if each.offer.seconds < taken.offer.seconds]
        return (cheaper[0] if cheaper else None), (faster[-1] if faster else None)


def candidates(
    plans: Sequence[Plan],
    manifest: Manifest,
    cut_of: Callable[[int], Cut],
    capacity: Capacity,
    terms: Terms,
    memory_mb: int | None = None,
) -> Candidates:
    """Predict plans, each in every memory that it fits.

    Parameters
    ----------
    plans
        As `lamella.planner.possible`: their memory is not looked at.
    cut_of
        The model's cut for so many workers.
    memory_mb
        The worker's size, where it was asked for: that is what it gets, whether it fits or not.

    Raises
    ------
    PlanError
        If no plan fits any deployed memory.
    """
    sizes = [memory_mb] if memory_mb else list(capacity.memory_sizes_mb)
    found: list[Candidate] = []
    needs: list[tuple[int, Plan]] = []
    spent = 0
    for alike in _alike(plans, cut_of, len(manifest.layers)):
        wanted = [replace(plan, memory_mb=size) for plan in alike.plans for size in sizes]
        kept = [plan for plan in wanted if not _is_beaten(plan, manifest, alike, terms, found)]
        if kept:
            if found and spent + alike.total > MOST_LETTERS:
                continue
            spent += alike.total
        if not terms.thorough or alike.total > FEW_LETTERS:
            wanted = kept
        if not wanted:
            continue
        tasks = tasks_of(manifest, alike.cut, alike.plans[0])
        workload = of_tasks(tasks, manifest, alike.plans[0], terms.activity)
        needs.append((workload.need_bytes, alike.plans[0]))
        for plan in wanted:
            if memory_mb or plan.memory_mb << 20 >= workload.need_bytes:
                planned = workload.planned(plan)
                prediction = predict(planned, terms.profile, terms.book, terms.architecture)
                found.append(Candidate(plan, prediction, tasks, planned))
    if not found:
        need, plan = min(needs, key=lambda each: each[0])
        check_fits(need, capacity.memory_sizes_mb, plan)
    return _judged(found, terms.timeout_s)


def _judged(found: Sequence[Candidate], timeout_s: float) -> Candidates:
    """Without those whose workers would be ended, unless it is all of them: predictions may be wrong."""
    in_time = [each for each in found if each.prediction.seconds.worker <= timeout_s] or list(found)
    kept = front([each.offer for each in in_time])
    return Candidates(tuple(in_time), tuple(in_time[number] for number in kept))


@dataclass(frozen=True)
class _Alike:
    """Plans that have the same tasks.

    Attributes
    ----------
    letters
        As `letters_by_layer`.
    """

    plans: list[Plan]
    cut: Cut | None
    letters: Ints

    @property
    def total(self) -> int:
        """Letters of the run."""
        return int(self.letters.sum()) * self.plans[0].groups * self.plans[0].micro_batches


def _alike(plans: Sequence[Plan], cut_of: Callable[[int], Cut], layers: int) -> list[_Alike]:
    """Those with fewer letters first, and then in the order in which the first of each is given."""
    groups: dict[Plan, list[Plan]] = {}
    for plan in plans:
        groups.setdefault(replace(plan, channel="none", memory_mb=0), []).append(plan)
    cuts = {p: cut_of(p) for p in {plan.row_workers for plan in groups if plan.strategy in NEEDS_CUT}}
    found = []
    for plan, alike in groups.items():
        cut = cuts.get(plan.row_workers) if plan.strategy in NEEDS_CUT else None
        found.append(_Alike(alike, cut, letters_by_layer(plan, cut, layers)))
    return sorted(found, key=lambda each: each.total)


def _is_beaten(
    plan: Plan, manifest: Manifest, alike: _Alike, terms: Terms, found: Sequence[Candidate]
) -> bool:
    least = least_offer(
        plan, manifest, alike.letters, terms.activity, terms.profile, terms.book, terms.architecture
    )
    return any(
        each.offer.seconds <= least.seconds
        and each.offer.usd <= least.usd
        and each.prediction.seconds.worker <= terms.timeout_s
        for each in found
    )


def described(plan: Plan) -> str:
    """A plan in a few words."""
    if plan.workers == 1:
        return f"{plan.strategy}, {plan.memory_mb:,} MB"
    said = f"{plan.strategy} over {plan.workers} workers"
    said += f" in {plan.groups} groups" if plan.groups > 1 else ""
    said += f" by {plan.channel}" if plan.channel != "none" else ""
    said += f", {plan.micro_batches} micro-batches" if plan.micro_batches > 1 else ""
    return f"{said}, {plan.memory_mb:,} MB"


def _priced(offer: Offer) -> str:
    return f"{offer.seconds:.1f} s and ${offer.usd:.2g}"
