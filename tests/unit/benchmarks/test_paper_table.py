"""The comparison with the paper."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from rich.console import Console

from benchmarks.paper_table import Channel, Network, measured, our_figures, paper_figures, shown
from benchmarks.whole_runs import Outcome
from lamella.usage import Count, Usage, lambda_usage
from workflows.paper import OBJECT, QUEUE


def test_the_papers_rows_for_eight_workers() -> None:
    queue, objects = QUEUE[1024, 8], OBJECT[1024, 8]
    assert (queue.batch_seconds, queue.sns_publish_billed, queue.bytes_sent, queue.total_usd) == (
        63.499,
        2204,
        104_131_260,
        0.021532,
    )
    assert (objects.batch_seconds, objects.s3_puts, objects.s3_lists, objects.total_usd) == (
        58.236,
        6452,
        1615,
        0.053909,
    )


def test_all_of_the_papers_configurations_are_there() -> None:
    assert len(QUEUE) == 15
    assert {row.workers for row in QUEUE.values()} == {8, 20, 42, 62}
    # Of two cuts for 42 workers, the one that was not drawn at random.
    assert len(OBJECT) == 20
    assert OBJECT[16384, 42].bytes_written == 3_895_079_200


def test_what_the_authors_left_empty_is_unknown() -> None:
    row = OBJECT[1024, 12]
    assert (row.lambda_mb, row.lambda_usd, row.s3_usd, row.total_usd) == (None, None, None, None)
    assert paper_figures(row).usd is None
    assert paper_figures(row).puts == 15_250


USAGE = Usage(
    {
        "sns.publish_batch": Count(100, 250, 10**9),
        "sqs.send_message_batch": Count(7, 9, 10**6),
        "sqs.receive_message": Count(400, 410, 10**9),
        "sqs.delete_message_batch": Count(90, 90, 0),
        "s3.put_object": Count(30, 30, 1),
        "s3.upload_part": Count(2, 2, 1),
        "s3.get_object": Count(40, 40, 1),
        "s3.head_object": Count(6, 6, 0),
        "s3.list_objects_v2": Count(5, 5, 0),
    }
)


def outcome() -> Outcome:
    usage = USAGE + lambda_usage(10, 1024)
    answer = {"usage": usage.to_json(), "seconds": {"total": 9, "prepare": 1, "infer": 7.5}}
    return Outcome(answer, True, 10.0, sent_objects=3, sent_bytes=5)


def test_our_figures_are_the_runs_usage_at_the_papers_prices() -> None:
    found = our_figures(outcome())
    assert (found.bytes_sent, found.publishes_billed, found.receives) == (10**9 + 10**6 + 5, 250, 400)
    assert (found.puts, found.gets, found.lists, found.seconds) == (32, 46, 5, 7.5)
    assert (found.sends_billed, found.sent_objects) == (9, 3)
    assert found.usd_by_service["sns"] == pytest.approx(250 * 0.5e-6 + 0.09)
    assert found.usd_by_service["sqs"] == pytest.approx(509 * 0.4e-6)
    assert found.usd_by_service["s3"] == pytest.approx(37 * 5.3e-6 + 46 * 0.42e-6)
    assert found.usd_by_service["lambda"] == pytest.approx(10 * 8 * 2.1e-6 + 0.2e-6)
    assert found.usd == pytest.approx(sum(usd or 0 for usd in found.usd_by_service.values()))


@pytest.mark.parametrize(
    ("network", "channel", "workers", "bytes_sent"),
    [
        (Network.OFFICIAL, Channel.SNS, 62, 1_201_678_700),
        (Network.OFFICIAL, Channel.S3, 62, 1_325_980_800),
        (Network.OFFICIAL, Channel.S3, 12, 294_856_160),
        (Network.OFFICIAL, Channel.SNS, 12, None),
        (Network.OFFICIAL, Channel.SQS, 8, None),
        (Network.ALIVE, Channel.S3, 8, None),
    ],
)
def test_each_cell_stands_beside_its_own_measurement(
    network: Network, channel: Channel, workers: int, bytes_sent: int | None
) -> None:
    found = measured(network, channel, 1024, workers)
    assert (found.bytes_sent if found else None) == bytes_sent


@pytest.mark.parametrize("known", [True, False])
def test_the_table_has_a_line_for_every_figure(known: bool) -> None:
    result: dict[str, Any] = {
        "network": "radixnet:1024x120",
        "input": "blobs",
        "workers": 8,
        "channel": "sns",
        "exact": not known,
        "error": None,
        "ours": dataclasses.asdict(our_figures(outcome())),
        "paper": dataclasses.asdict(paper_figures(QUEUE[1024, 8])) if known else None,
    }
    text = lines(result)
    assert ("NOT EXACT" in text) is known
    assert ("2,204" in text) is known
    for words in (
        "bytes sent",
        "1,001,000,005",
        "publishes billed",
        "receives",
        "usd, s3",
        "lists",
        "seconds",
    ):
        assert words in text


def test_a_run_that_failed_says_why() -> None:
    failed = {"network": "n", "input": "i", "workers": 8, "channel": "s3", "exact": False, "ours": None}
    assert "worker 3 failed" in lines(failed | {"error": "worker 3 failed", "paper": None})


def lines(result: dict[str, Any]) -> str:
    text = io.StringIO()
    Console(file=text, width=120).print(shown(result))
    return text.getvalue()
