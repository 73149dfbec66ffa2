"""What is leased is held by one run at a time, and waited for in line."""

from __future__ import annotations

import threading
from typing import Any

import boto3
import pytest
from moto import mock_aws

from lamella.errors import LeaseError
from lamella.lease_table import Amount, Granted
from lamella.leases import SHORTEST_LOOK_S, Leases, NotYet, Terms, next_look_s

ROOM = Amount(units=8, slots=4)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="bucket")
        yield client


def leases(s3: Any, now_s: float = 100.0) -> Leases:
    return Leases(s3, "bucket", lambda: now_s, lambda _: None)


def terms(until_s: float = 200.0, wait_s: float = 0.0) -> Terms:
    return Terms(ROOM, until_s, wait_s)


def test_taking_again_gives_the_same_and_releasing_frees(s3: Any) -> None:
    mine = leases(s3)
    assert mine.take("run", Amount(3, 3), terms()) == mine.take("run", Amount(3, 3), terms())
    assert mine.held("run") == (0, 1, 2)
    with pytest.raises(LeaseError, match="5 of 8 units of concurrency and 1 of 4 slots are free"):
        mine.take("next", Amount(2, 2), terms())
    mine.release("run")
    mine.release("run")
    assert mine.held("run") == ()
    assert mine.take("next", Amount(4, 4), terms()) == Granted((0, 1, 2, 3), 0.0)


def test_a_run_without_a_channel_takes_concurrency_alone(s3: Any) -> None:
    assert leases(s3).take("samples", Amount(8), terms()) == Granted((), 0.0)
    with pytest.raises(LeaseError, match="1 unit of concurrency could not be had"):
        leases(s3).take("serial", Amount(1), terms())


def test_what_could_never_be_had_is_not_waited_for(s3: Any) -> None:
    with pytest.raises(LeaseError, match="9 units of concurrency can't be had: there are 8") as refused:
        leases(s3).take("run", Amount(9), terms(wait_s=600))
    assert not isinstance(refused.value, NotYet)
    assert leases(s3).runs() == set()


def test_a_run_waits_in_line_until_it_has_its_turn(s3: Any) -> None:
    leases(s3).take("holder", Amount(8, 4), terms())
    with pytest.raises(NotYet) as soon:
        leases(s3).take("run", Amount(4, 2), terms(wait_s=600))
    assert soon.value.wait_s == SHORTEST_LOOK_S
    with pytest.raises(NotYet):
        leases(s3, 105.0).turn("run", terms(wait_s=600))
    leases(s3).release("holder")
    assert leases(s3, 110.0).turn("run", terms(wait_s=600)) == Granted((0, 1), 10.0, looks=2)
    # Plan may be called again at any time: it is told the same.
    assert leases(s3, 120.0).turn("run", terms(wait_s=600)) == Granted((0, 1), 10.0, looks=2)
    assert leases(s3, 120.0).take("run", Amount(4, 2), terms()) == Granted((0, 1), 10.0, looks=2)
    assert leases(s3, 120.0).turn("unheard-of", terms(wait_s=600)) is None


def test_a_run_that_waited_as_long_as_it_may_fails_and_leaves_the_line(s3: Any) -> None:
    leases(s3).take("holder", Amount(8, 4), terms(until_s=1000.0))
    with pytest.raises(NotYet):
        leases(s3).take("run", Amount(4, 2), terms(wait_s=30))
    with pytest.raises(NotYet) as last:
        leases(s3, 128.5).turn("run", terms(wait_s=30))
    assert last.value.wait_s == 2
    with pytest.raises(LeaseError, match=r"could not be had within 30 s: 0 of 8 .*LeaseWait") as refused:
        leases(s3, 130.5).turn("run", terms(wait_s=30))
    assert not isinstance(refused.value, NotYet)
    assert leases(s3).runs() == {"holder"}


def test_a_stopped_run_leaves_the_line(s3: Any) -> None:
    leases(s3).take("holder", Amount(8, 4), terms())
    with pytest.raises(NotYet):
        leases(s3).take("run", Amount(8, 4), terms(wait_s=30))
    leases(s3).release("run")
    assert leases(s3).runs() == {"holder"}


@pytest.mark.parametrize(
    ("waited_s", "wait_s", "look_s"),
    [
        (0, 600, 3),
        (100, 600, 10),
        (500, 600, 20),
        (599.5, 600, 1),
        (600, 600, 0),
    ],
)
def test_the_longer_a_run_waits_the_more_rarely_it_looks(waited_s: float, wait_s: float, look_s: int) -> None:
    assert next_look_s(waited_s, wait_s) == look_s


def test_a_write_that_someone_else_overtook_is_done_again_on_what_they_wrote(s3: Any) -> None:
    overtaken = threading.Event()

    class Overtaken:
        def __getattr__(self, name: str) -> Any:
            return getattr(s3, name)

        def put_object(self, **call: Any) -> Any:
            if not overtaken.is_set():
                overtaken.set()
                leases(s3).take("quicker", Amount(2, 2), terms())
            return s3.put_object(**call)

    slow = Leases(Overtaken(), "bucket", lambda: 100.0, lambda _: None)  # type: ignore[arg-type]
    assert slow.take("slower", Amount(2, 2), terms()).slots == (2, 3)
    assert leases(s3).held("quicker") == (0, 1)


def test_a_write_whose_answer_was_lost_is_not_done_twice(s3: Any) -> None:
    lost = threading.Event()

    class Lossy:
        def __getattr__(self, name: str) -> Any:
            return getattr(s3, name)

        def put_object(self, **call: Any) -> Any:
            answer = s3.put_object(**call)
            if not lost.is_set():
                lost.set()
                # As botocore does where no answer comes: which is refused, since the tag is another's now.
                return s3.put_object(**call)
            return answer

    mine = Leases(Lossy(), "bucket", lambda: 100.0, lambda _: None)  # type: ignore[arg-type]
    assert mine.take("run", Amount(2, 2), terms()) == Granted((0, 1), 0.0)
    assert leases(s3).take("next", Amount(2, 2), terms()).slots == (2, 3)


def test_what_is_kept_expires_earlier_and_never_later(s3: Any) -> None:
    mine = leases(s3)
    mine.take("run", Amount(4, 4), terms(200.0))
    mine.keep("run", 300.0)
    with pytest.raises(LeaseError):
        leases(s3, 199.0).take("next", Amount(1, 1), terms(500.0))
    mine.keep("run", 150.0)
    assert leases(s3, 151.0).take("next", Amount(8, 4), terms(500.0)).slots == (0, 1, 2, 3)


def test_a_damaged_lease_is_said(s3: Any) -> None:
    s3.put_object(Bucket="bucket", Key="leases/slots.json", Body=b"{}")
    with pytest.raises(LeaseError, match="is damaged"):
        leases(s3).held("run")
