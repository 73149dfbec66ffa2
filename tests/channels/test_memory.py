"""The memory channel passes the contract."""

from __future__ import annotations

import time
from functools import partial

import pytest

from lamella.channels.memory import MemoryChannel, MemoryHub
from lamella.deadline import Deadline
from tests.channels.contract import ChannelContract, Gang, at_once, mailbox
from tests.channels.faults import Service


class TestMemory(ChannelContract):
    @pytest.fixture
    def service(self) -> Service:
        return Service()

    @pytest.fixture
    def gang(self) -> Gang:
        def make(workers: int) -> list[MemoryChannel]:
            hub = MemoryHub(workers)
            return [MemoryChannel(hub, worker, visibility_s=1) for worker in range(workers)]

        return make


@pytest.mark.parametrize(("here", "outcome"), [(64, "None"), (63, "the others waited in vain for worker 63")])
def test_a_barrier_of_many_workers(here: int, outcome: str) -> None:
    hub = MemoryHub(64)
    until = Deadline.after(5)
    boxes = [mailbox(MemoryChannel(hub, worker), worker) for worker in range(here)]
    passed = at_once([partial(box.barrier, 64, until) for box in boxes])
    assert {str(each).partition(" to begin")[0] for each in passed} == {outcome}


def test_who_is_missing_is_told_before_the_first_has_to_give_up() -> None:
    hub, began_s = MemoryHub(3), time.monotonic()
    boxes = [
        mailbox(MemoryChannel(hub, worker), worker, seconds=seconds) for worker, seconds in ((0, 60), (1, 2))
    ]
    passed = at_once([partial(box.barrier, 3, Deadline.after(60)) for box in boxes])
    assert ["worker 2 to begin" in str(each) for each in passed] == [True, True]
    assert time.monotonic() - began_s < 10
