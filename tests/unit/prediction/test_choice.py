"""Which plan is taken, against looking at all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lamella.prediction.choice import Offer, chosen, front

OFFERS = st.lists(
    st.builds(Offer, st.integers(1, 20).map(float), st.integers(1, 20).map(float)), min_size=1, max_size=12
)


@given(OFFERS)
def test_nothing_beats_the_front_and_all_else_is_beaten(offers: list[Offer]) -> None:
    kept = front(offers)
    for number, offer in enumerate(offers):
        beaten = any(
            other.seconds <= offer.seconds and other.usd <= offer.usd and other != offer for other in offers
        )
        assert not (number in kept and beaten)
        assert beaten or offer in [offers[i] for i in kept]


@given(OFFERS)
def test_by_default_the_cheapest_within_twice_the_fastest(offers: list[Offer]) -> None:
    number = chosen(offers)
    assert number is not None
    fast = [offer for offer in offers if offer.seconds <= 2 * min(each.seconds for each in offers)]
    assert offers[number] in fast
    assert offers[number].usd == min(offer.usd for offer in fast)


@given(OFFERS, st.integers(1, 20))
def test_with_a_deadline_the_cheapest_that_keeps_it(offers: list[Offer], deadline: int) -> None:
    number = chosen(offers, deadline_s=deadline)
    kept = [offer for offer in offers if offer.seconds <= deadline]
    assert (number is None) == (not kept)
    if number is not None:
        assert offers[number] in kept
        assert offers[number].usd == min(offer.usd for offer in kept)


@given(OFFERS, st.integers(1, 20))
def test_with_a_budget_the_fastest_that_keeps_it(offers: list[Offer], budget: int) -> None:
    number = chosen(offers, budget_usd=budget)
    kept = [offer for offer in offers if offer.usd <= budget]
    assert (number is None) == (not kept)
    if number is not None:
        assert offers[number] in kept
        assert offers[number].seconds == min(offer.seconds for offer in kept)
