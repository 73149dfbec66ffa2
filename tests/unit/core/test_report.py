"""What a run's report says, and that its page is one that a browser can be trusted with."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from lamella.records import Alternative, Ending, Predicted
from lamella.report import Report, build_report, failure_of, page
from lamella.report.build import stragglers
from lamella.report.model import Published
from lamella.timeline import timeline
from tests.report_samples import made, record, summary, worker

HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[31m"
VOID = {"meta", "link"}


class Elements(HTMLParser):
    """Checks that elements are closed in order, and keeps what there is."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)


def read(shown: str) -> Elements:
    found = Elements()
    found.feed(shown)
    found.close()
    assert found.open == []
    return found


def assert_harmless(found: Elements) -> None:
    """No script, and nothing that is fetched."""
    assert not {"script", "img", "iframe", "object", "embed", "form", "base"} & set(found.names)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name == "src"]
    assert [value for name, value in found.attributes if name == "href"] == ["data:,"]


def test_everything_that_happened_is_on_the_page() -> None:
    reports = [worker(k) for k in range(3)] + [worker(3, compute_s=0.2)]
    report, drawn = made(
        reports,
        predicted=Predicted(
            seconds=10.0,
            prepare_s=2.0,
            infer_s=7.0,
            usd={"lambda": 0.002, "sns": 0.0005, "total": 0.0025},
            bound="latency",
            assumed=("all alive", "aws", "book"),
            cheaper=Alternative(plan="serial", seconds=20.0, usd=0.0001),
        ),
        published=Published(source="FSD-Inf-Queue", seconds=60.0, cost_usd=0.02, bytes_sent=104_131_260),
    )
    found = read(page(report, drawn))
    words = " ".join(" ".join(found.texts).split())
    assert_harmless(found)
    step = (
        "worker 2, layer 7: wait 20.0 ms, read 1.0 ms, compute 10.0 ms, send 5.0 ms; 83 live samples; 1.0 kB"
    )
    for said in (
        "run-1",
        "SUCCEEDED",
        "rows over sns, 4 workers of 1,024 MB",
        "1970-01-01 00:01:40 UTC",
        "12.50 s",
        "$0.001500",
        "9 of 90 samples (10.0%)",
        "worker 3 computed for 2.40 s; the median is 120.0 ms",
        "FSD-Inf-Queue measured 60.00 s",
        "cheaper",
        step,
        "sns.publish_batch",
        "s3://b/inputs/run-1.npy",
        "predicted",
    ):
        assert said in words, said
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_what_is_not_known_is_not_on_the_page() -> None:
    report, drawn = made([worker(0)])
    words = " ".join(read(page(report, drawn)).texts)
    assert not re.search("predicted|Other plans|measured|Straggler|No worker|What failed", words)


def test_a_page_carries_no_markup_of_names() -> None:
    planned = dataclasses.replace(record(), run=HOSTILE, model=HOSTILE, request={"input": HOSTILE})
    ending = Ending(
        HOSTILE, worker(2), (HOSTILE, '{"timestamp": "t", "level": "ERROR", "message": "' + "<b>" + '"}')
    )
    drawn = timeline(planned, "FAILED", [], [ending])
    failure = failure_of(HOSTILE, HOSTILE, 2, [ending])
    report = build_report(
        summary(HOSTILE, status=HOSTILE), planned, drawn, [ending.report], failure, timeline=HOSTILE
    )
    shown = page(report, drawn)
    found = read(shown)
    assert_harmless(found)
    assert "b" not in found.names
    assert "\x1b" not in shown
    assert "alert(1)" in " ".join(found.texts)


def test_a_failed_run_says_which_worker_failed_where() -> None:
    ending = Ending(
        "ModelError: bad", worker(2, layers=7), ('{"timestamp":"12:00","level":"INFO","message":"joined"}',)
    )
    drawn = timeline(record(), "FAILED", [], [ending])
    report = build_report(
        summary(status="FAILED", seconds={"total": 3.0}, categories=None, predictions=None),
        record(),
        drawn,
        [ending.report],
        failure_of("WorkerError", "worker 2 failed: ModelError: bad", 2, [ending]),
    )
    words = " ".join(read(page(report, drawn)).texts)
    assert "worker 2, after layer 6" in words
    assert "12:00 INFO joined" in words
    assert report.failure
    assert (report.failure.worker, report.failure.after_layer) == (2, 6)
    killed = failure_of("WorkerError", "worker 1 failed: Runtime.ExitError", 1, [ending])
    assert (killed.worker, killed.after_layer, killed.lines) == (1, None, ())


def test_a_refused_run_has_a_report_too() -> None:
    refused = {
        name: value
        for name, value in summary(status="FAILED").items()
        if name not in {"seconds", "categories", "predictions", "activations"}
    }
    report = build_report(refused, None, None, [], failure_of("ModelError", "no model", None, []))
    words = " ".join(read(page(report, None)).texts)
    assert "no model" in words
    assert "Timeline" not in words


def test_a_thousand_workers_fit_a_page() -> None:
    reports = [worker(k, layers=120, started_s=102.0 + k / 1000) for k in range(1000)]
    report, drawn = made(reports)
    shown = page(report, drawn)
    assert len(shown) < 6_000_000
    assert "of 1,000 workers are drawn" in shown
    assert 32 <= shown.count('aria-label="worker ') / 2 <= 64


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        ({"started_s": 108.0}, [(3, "start")]),
        ({"compute_s": 0.5}, [(3, "compute")]),
        ({}, []),
    ],
)
def test_stragglers_are_named_for_what_is_their_own(
    late: dict[str, float], expected: list[tuple[int, str]]
) -> None:
    report, _ = made([worker(0), worker(1), worker(2), worker(3, **late)])  # type: ignore[arg-type]
    assert [(item.worker, item.what) for item in report.stragglers] == expected
    assert stragglers(report.workers[2:]) == []
