"""What S3 Express One Zone would change: the channel ``s3`` as if its objects lay there.

There is no such channel: this says whether there should be.
"""

from __future__ import annotations

from dataclasses import dataclass

from lamella.prediction.accounting import letters_usage
from lamella.prediction.candidates import Candidate, Candidates, Terms
from lamella.prediction.choice import Offer, chosen
from lamella.prediction.closed_form import predict
from lamella.prediction.times import step_times
from lamella.usage import Usage


@dataclass(frozen=True)
class Express:
    """The best plan whose objects would be there.

    Attributes
    ----------
    is_taken
        Whether it would be chosen.
    """

    candidate: Candidate
    offer: Offer
    is_taken: bool


def offer_by_express(candidate: Candidate, terms: Terms) -> Offer:
    """Seconds and dollars of a plan over ``s3`` with what workers send in S3 Express One Zone.

    Prices that the book does not know are not counted.
    """
    workload, book = candidate.workload, terms.book
    profile = terms.profile.with_s3_express()
    prediction = predict(workload, profile, book, terms.architecture, letters=Usage())
    letters = letters_usage(workload, step_times(workload, profile).calls)
    puts, gets = letters.count("s3.put_object"), letters.count("s3.get_object")
    usd = prediction.usd["total"]
    for price, units in (
        (book.s3_express_put_request, puts.billed),
        (book.s3_express_get_request, gets.billed),
        (book.s3_express_in_byte, puts.bytes),
        (book.s3_express_out_byte, gets.bytes),
    ):
        usd += price.of(units) if price else 0.0
    return Offer(prediction.seconds.total, usd)


def by_express(
    found: Candidates,
    terms: Terms,
    deadline_s: float | None = None,
    budget_usd: float | None = None,
) -> Express | None:
    """What would be chosen of the plans over ``s3``, and whether over all others; None without such plans."""
    over = [each for each in found.all if each.plan.channel == "s3"]
    offers = [offer_by_express(each, terms) for each in over]
    number = chosen(offers, deadline_s=deadline_s, budget_usd=budget_usd)
    if number is None:
        number = min(range(len(offers)), key=lambda i: offers[i].seconds, default=None)
    if number is None:
        return None
    rivals = [each.offer for each in found.front]
    best = chosen([*rivals, *offers], deadline_s=deadline_s, budget_usd=budget_usd)
    if best is not None and best >= len(rivals):
        number = best - len(rivals)
        return Express(over[number], offers[number], is_taken=True)
    return Express(over[number], offers[number], is_taken=False)
