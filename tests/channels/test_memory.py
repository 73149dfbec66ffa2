"""The memory channel passes the contract."""

from __future__ import annotations

import pytest

from lamella.channels.memory import MemoryChannel, MemoryHub
from tests.channels.contract import ChannelContract, Gang
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
