"""The comparison with the paper."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from rich.console import Console

from benchmarks.paper_table import our_figures, paper_figures, shown
from lamella.usage import Count, Usage, lambda_usage
from workflows.paper import MEASURED, Measurement


def test_the_papers_row_for_eight_workers() -> None:
    row = MEASURED["queue", 1024, 8]
    assert (row.batch_seconds, row.sns_publish_billed, row.bytes_sent, row.total_usd) == (
        63.499,
        2204,
        104_131_260,
        0.021532,
    )


def test_all_of_the_papers_configurations_are_there() -> None:
    assert len(MEASURED) == 15
    assert {row.workers for row in MEASURED.values()} == {8, 20, 42, 62}
    assert [field.name for field in dataclasses.fields(Measurement)][-1] == "total_usd"


USAGE = Usage(
    {
        "sns.publish_batch": Count(100, 250, 10**9),
        "sqs.receive_message": Count(400, 410, 10**9),
        "sqs.delete_message_batch": Count(90, 90, 0),
        "s3.put_object": Count(30, 30, 1),
        "s3.get_object": Count(40, 40, 1),
        "s3.list_objects_v2": Count(5, 5, 0),
    }
)


def answer() -> dict[str, Any]:
    usage = USAGE + lambda_usage(10, 1024)
    return {"usage": usage.to_json(), "seconds": {"total": 9, "prepare": 1, "infer": 7.5}}


def test_our_figures_are_the_runs_usage_at_the_papers_prices() -> None:
    found = our_figures(answer())
    assert (found.bytes_sent, found.publishes_billed, found.receives) == (10**9, 250, 400)
    assert (found.puts, found.gets, found.lists, found.seconds) == (30, 40, 5, 7.5)
    assert found.usd_by_service["sns"] == pytest.approx(250 * 0.5e-6 + 0.09)
    assert found.usd_by_service["sqs"] == pytest.approx(500 * 0.4e-6)
    assert found.usd_by_service["s3"] == pytest.approx(35 * 5.3e-6 + 40 * 0.42e-6)
    assert found.usd_by_service["lambda"] == pytest.approx(10 * 8 * 2.1e-6 + 0.2e-6)
    assert found.usd == pytest.approx(sum(found.usd_by_service.values()))


@pytest.mark.parametrize("measured", [True, False])
def test_the_table_has_a_line_for_every_figure(measured: bool) -> None:
    result = {
        "network": "radixnet:1024x120",
        "input": "blobs",
        "workers": 8,
        "exact": not measured,
        "ours": dataclasses.asdict(our_figures(answer())),
        "paper": dataclasses.asdict(paper_figures(MEASURED["queue", 1024, 8])) if measured else None,
    }
    text = io.StringIO()
    Console(file=text, width=120).print(shown(result))
    assert ("NOT EXACT" in text.getvalue()) is measured
    assert ("2,204" in text.getvalue()) is measured
    for words in (
        "bytes sent",
        "1,000,000,000",
        "publishes billed",
        "receives",
        "usd, s3",
        "lists",
        "seconds",
    ):
        assert words in text.getvalue()
