"""``report.html``: one file without scripts, which asks the network for nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib import resources

from lamella.quantities import ratio, seconds, size, usd
from lamella.report import drawing
from lamella.report.markup import element, folded, note, section, table, text
from lamella.report.model import Report
from lamella.timeline import LayerTotals, Timeline

# Even if something in it were markup, a browser would neither run nor fetch it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_SERVICES = {"lambda": "Lambda", "sns": "SNS", "sqs": "SQS", "s3": "S3", "stepfunctions": "Step Functions"}
_EVERYWHERE = {"location", "service", "request_id", "run", "worker", "xray_trace_id"}
_DID = {"start": "started", "read": "read for", "compute": "computed for"}


def page(report: Report, drawn: Timeline | None) -> str:
    """The whole page.

    Parameters
    ----------
    drawn
        The run's timeline; None where it has none.
    """
    style = resources.files("lamella.report").joinpath("page.css").read_text(encoding="utf-8")
    head = element(
        "head",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<link rel="icon" href="data:,">',
        element("title", text(f"Lamella run {report.run_id}")),
        element("style", style),
    )
    body = element("body", element("main", *_sections(report, drawn)))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _sections(report: Report, drawn: Timeline | None) -> Iterator[str]:
    yield _header(report)
    if report.failure:
        yield _failure(report)
    yield section("In short", _figures(report))
    if report.predictions:
        yield _predictions(report)
    if drawn and drawn.states:
        yield _timeline(report, drawn)
    if report.layers:
        yield _layers(report.layers)
    yield _cost(report)
    if report.alternatives:
        yield _alternatives(report)
    if report.planned:
        yield _plan(report)


def _header(report: Report) -> str:
    said = []
    if report.planned:
        plan = report.planned
        said.append(f"{plan.strategy} over {plan.channel}, {plan.workers:,} workers of {plan.memory_mb:,} MB")
    if report.started_s is not None:
        said.append(time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(report.started_s)))
    status = f"status {'good' if report.status == 'SUCCEEDED' else 'bad'}"
    return element(
        "header",
        element("h1", text(f"Run {report.run_id}")),
        element("span", text(report.status), class_=status),
        element("p", text(" · ".join(said))),
    )


def _failure(report: Report) -> str:
    failure = report.failure
    assert failure
    rows = [("error", failure.error), ("why", failure.cause)]
    if failure.worker is not None:
        done = (
            "before its first layer was done"
            if failure.after_layer is None
            else f"after layer {failure.after_layer}"
        )
        rows.append(("where", f"worker {failure.worker}, {done}"))
    lines = element("pre", text("\n".join(map(_log_line, failure.lines)))) if failure.lines else ""
    title = element("h3", text("The last lines of its log")) if failure.lines else ""
    return section("What failed", _pairs(rows), title, lines)


def _log_line(line: str) -> str:
    """A line of log, shorter: what every one of them says is said above."""
    try:
        said = json.loads(line)
        told = [said.pop("timestamp"), said.pop("level"), str(said.pop("message"))]
    except (ValueError, KeyError, AttributeError, TypeError):
        return line
    return " ".join([*map(str, told), *(f"{key}={said[key]}" for key in said if key not in _EVERYWHERE)])


def _figures(report: Report) -> str:
    figures = [(name, seconds(value)) for name, value in report.seconds.items()]
    figures.append(("cost", usd(report.cost_usd["total"])))
    if report.planned:
        figures.append(("samples", f"{report.planned.samples:,}"))
    if report.categories is not None:
        figures.append(("with an output", f"{report.categories:,}"))
    if report.layers:
        figures.append(("sent between workers", size(sum(layer.sent_bytes for layer in report.layers))))
    return element(
        "dl",
        *(element("div", element("dt", text(name)), element("dd", text(value))) for name, value in figures),
        class_="figures",
    )


def _predictions(report: Report) -> str:
    samples = report.planned.samples if report.planned else 0
    rows = [("predictions", report.predictions or "")]
    if report.activations:
        rows.append(("activations", report.activations))
    share = f" ({report.categories / samples:.1%})" if report.categories is not None and samples else ""
    return section(
        "Predictions",
        element(
            "p",
            text(
                f"{report.categories or 0:,} of {samples:,} samples{share} have an output that is not zero."
            ),
        ),
        _pairs(rows),
    )


def _timeline(report: Report, drawn: Timeline) -> str:
    shown = len(drawing.chosen(drawn.workers))
    left_out = note(
        f"{shown} of {len(drawn.workers):,} workers are drawn: the last to end, and some of the others."
    )
    parts = [
        drawing.legend("state", "start", "running", *(["failed"] if report.failure else [])),
        drawing.whole_run(drawn),
        left_out if shown < len(drawn.workers) else "",
        *_stragglers(report),
    ]
    steps = drawing.layer_by_layer(drawn)
    if steps:
        parts += [element("h3", text("Layer by layer")), drawing.legend(*drawing.KINDS), steps]
    parts.append(folded("Every worker", _workers(report)))
    return section("Timeline", *parts)


def _stragglers(report: Report) -> Iterator[str]:
    if len(report.workers) < 3:
        return
    if not report.stragglers:
        yield note("No worker took much longer than the others to start, read or compute.")
    for item in report.stragglers:
        what = f"worker {item.worker} {_DID[item.what]} "
        if item.what == "start":
            what = f"worker {item.worker} started at "
        yield note(f"Straggler: {what}{seconds(item.seconds)}; the median is {seconds(item.median_s)}.")


def _workers(report: Report) -> str:
    head = (
        "worker",
        "started",
        "joined",
        "ended",
        "wait",
        "read",
        "compute",
        "send",
        "sent",
        "weights read",
        "kept",
        "memory",
    )
    return table(
        head,
        (
            (
                f"{worker.worker}" + (f" (start {worker.incarnation})" if worker.incarnation > 1 else ""),
                *map(seconds, (worker.started_s, worker.joined_s, worker.ended_s)),
                *map(seconds, (worker.wait_s, worker.read_s, worker.compute_s, worker.send_s)),
                *map(size, (worker.sent_bytes, worker.read_bytes, worker.reused_bytes, worker.peak_bytes)),
            )
            for worker in report.workers
        ),
    )


def _layers(layers: tuple[LayerTotals, ...]) -> str:
    operations = sorted({name for layer in layers for name in layer.calls})
    charts = [
        ("Live samples after each layer, at least", drawing.live_chart(layers)),
        ("Bytes sent after each layer", drawing.bytes_chart(layers)),
        ("Seconds of all workers", drawing.seconds_chart(layers)),
    ]
    shown = [part for title, chart in charts if chart for part in (element("h3", text(title)), chart)]
    rows = (
        (
            f"{layer.layer}",
            "" if layer.live is None else f"{layer.live:,}",
            *map(seconds, (layer.wait_s, layer.read_s, layer.compute_s, layer.send_s)),
            size(layer.sent_bytes),
            f"{layer.letters:,}",
            *(f"{layer.calls[name].calls:,}" if name in layer.calls else "" for name in operations),
        )
        for layer in layers
    )
    head = ("layer", "live", "wait", "read", "compute", "send", "sent", "letters", *operations)
    return section("Layers", *shown, drawing.legend(*drawing.KINDS), folded("Every layer", table(head, rows)))


def _cost(report: Report) -> str:
    predicted = report.predicted.cost_usd if report.predicted else {}
    head = ["service", "USD", *(["predicted", "of predicted"] if predicted else [])]
    rows = []
    for service, paid in report.cost_usd.items():
        row = [_SERVICES.get(service, service), usd(paid)]
        if predicted:
            row += [usd(predicted.get(service, 0.0)), ratio(paid, predicted.get(service, 0.0))]
        rows.append(row)
    parts = [table(head, rows), note(f"Metered, at the prices of {report.prices}.")]
    if report.predicted:
        named = [name for name in report.predicted.seconds if name in report.seconds]
        compared = (
            (
                name,
                seconds(report.seconds[name]),
                seconds(report.predicted.seconds[name]),
                ratio(report.seconds[name], report.predicted.seconds[name]),
            )
            for name in named
        )
        parts.append(table(("seconds", "taken", "predicted", "of predicted"), compared))
    if report.published:
        other = report.published
        price = f", {usd(other.cost_usd)}" if other.cost_usd is not None else ""
        parts.append(
            note(
                f"{other.source} measured {seconds(other.seconds)}{price} and {size(other.bytes_sent)} sent."
            )
        )
    usage = (
        (
            name,
            f"{count['calls']:,}",
            f"{count['billed']:,.6g}",
            size(count["bytes"]) if count["bytes"] else "",
        )
        for name, count in sorted(report.usage.items())
    )
    parts.append(folded("Every operation", table(("operation", "calls", "billed", "bytes"), usage)))
    return section("Cost", *parts)


def _alternatives(report: Report) -> str:
    rows = ((item.kind, item.plan, seconds(item.seconds), usd(item.cost_usd)) for item in report.alternatives)
    return section("Other plans", table(("", "plan", "predicted seconds", "predicted USD"), rows, words=2))


def _plan(report: Report) -> str:
    plan = report.planned
    assert plan
    rows = [
        ("model", plan.model),
        ("input", plan.input),
        ("strategy", plan.strategy),
        ("channel", plan.channel),
        ("workers", f"{plan.workers:,}" + (f" in {plan.groups} groups" if plan.groups > 1 else "")),
        ("micro-batches", f"{plan.micro_batches}"),
        ("memory", f"{plan.memory_mb:,} MB"),
    ]
    if report.timeline:
        rows.append(("timeline", report.timeline))
    return section("Plan", _pairs(rows))


def _pairs(rows: list[tuple[str, str]]) -> str:
    inside = (
        part for name, value in rows for part in (element("dt", text(name)), element("dd", text(value)))
    )
    return element("dl", *inside, class_="pairs")
