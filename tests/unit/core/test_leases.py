"""Slots are held by one run at a time."""

from __future__ import annotations

import threading
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from lamella.errors import LeaseError
from lamella.leases import Hold, SlotLeases, allocate

runs = st.sampled_from(["a", "b", "c", "d"])


@given(st.lists(st.tuples(runs, st.integers(1, 6), st.booleans()), max_size=20))
def test_no_slot_is_ever_held_twice_and_all_or_none_are_taken(story: list[tuple[str, int, bool]]) -> None:
    holds: Any = {}
    for now, (run, count, release) in enumerate(story):
        if release:
            holds = {slot: hold for slot, hold in holds.items() if hold.run != run}
            continue
        before = dict(holds)
        try:
            holds = allocate(holds, run, count, 8, now, now + 5)
        except LeaseError:
            assert holds == before
            continue
        assert sum(hold.run == run for hold in holds.values()) >= count
        for slot, hold in before.items():
            if hold.until_s > now:
                assert holds[slot].run == hold.run
        assert set(holds) <= set(range(8))


def test_an_expired_hold_is_free_and_a_live_one_is_not() -> None:
    holds = {0: Hold("old", 10.0), 1: Hold("other", 30.0)}
    assert allocate(holds, "new", 1, 2, 20.0, 40.0)[0] == Hold("new", 40.0)
    with pytest.raises(LeaseError, match="2 slots are needed and 1 of 2 are free"):
        allocate(holds, "new", 2, 2, 20.0, 40.0)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="bucket")
        yield client


def leases(s3: Any) -> SlotLeases:
    return SlotLeases(s3, "bucket", lambda: 100.0, lambda _: None)


def test_taking_again_gives_the_same_and_releasing_frees(s3: Any) -> None:
    mine = leases(s3)
    assert mine.take("run", 3, 4, 200.0) == mine.take("run", 3, 4, 200.0) == (0, 1, 2)
    with pytest.raises(LeaseError):
        mine.take("next", 2, 4, 200.0)
    mine.release("run")
    mine.release("run")
    assert mine.held("run") == ()
    assert mine.take("next", 4, 4, 200.0) == (0, 1, 2, 3)


def test_a_write_that_someone_else_overtook_is_done_again_on_what_they_wrote(s3: Any) -> None:
    overtaken = threading.Event()

    class Overtaken:
        def __getattr__(self, name: str) -> Any:
            return getattr(s3, name)

        def put_object(self, **call: Any) -> Any:
            if not overtaken.is_set():
                overtaken.set()
                leases(s3).take("quicker", 2, 4, 200.0)
            return s3.put_object(**call)

    slow = SlotLeases(Overtaken(), "bucket", lambda: 100.0, lambda _: None)  # type: ignore[arg-type]
    assert slow.take("slower", 2, 4, 200.0) == (2, 3)
    assert leases(s3).held("quicker") == (0, 1)


def test_what_is_kept_expires_earlier_and_never_later(s3: Any) -> None:
    mine = leases(s3)
    mine.take("run", 2, 2, 200.0)
    mine.keep("run", 300.0)
    with pytest.raises(LeaseError):
        SlotLeases(s3, "bucket", lambda: 199.0, lambda _: None).take("next", 1, 2, 500.0)
    mine.keep("run", 150.0)
    assert SlotLeases(s3, "bucket", lambda: 151.0, lambda _: None).take("next", 2, 2, 500.0) == (0, 1)


def test_a_damaged_lease_is_said(s3: Any) -> None:
    s3.put_object(Bucket="bucket", Key="leases/slots.json", Body=b"{}")
    with pytest.raises(LeaseError, match="is damaged"):
        leases(s3).held("run")
