"""The report's pictures: SVG that stretches to the width there is, with the words beside it in HTML.

Nothing here moves or asks for anything: hovering shows the titles of what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lamella.errors import RunAborted
from lamella.quantities import seconds, size
from lamella.report.markup import element, text
from lamella.timeline import LayerTotals, Step, Timeline, Worker

KINDS = ("wait", "read", "compute", "send")
MOST_ROWS = 64
MOST_STEPS = 6000  # in one picture: what has more joins neighbours
MOST_BARS = 480
_WIDE, _HIGH = 10_000, 20
_CHART_HIGH = 1000


@dataclass(frozen=True)
class Window:
    """The time that a picture shows, in seconds since Plan began."""

    began_s: float
    ended_s: float

    def x(self, moment_s: float) -> int:
        """Where a moment is, in units of the picture."""
        share = (moment_s - self.began_s) / max(self.ended_s - self.began_s, 1e-9)
        return round(_WIDE * min(max(share, 0.0), 1.0))


def legend(*kinds: str) -> str:
    """What the colours mean."""
    items = [element("li", element("i", class_=kind), text(kind)) for kind in kinds]
    return element("ul", *items, class_="legend")


def whole_run(drawn: Timeline) -> str:
    """States, and each worker from its start over its joining to its end."""
    ends_s = [state.ended_s for state in drawn.states] + [worker.ended_s for worker in drawn.workers]
    window = Window(0.0, max(ends_s, default=0.0))
    rows = [
        _row(
            state.name,
            [
                _bar(
                    window,
                    "state",
                    state.began_s,
                    state.ended_s,
                    f"{state.name}: {_from_to(state.began_s, state.ended_s)}",
                )
            ],
        )
        for state in drawn.states
    ]
    for worker in chosen(drawn.workers):
        name = f"worker {worker.worker}"
        joined = f"{name}: started at {seconds(worker.started_s)}, joined at {seconds(worker.joined_s)}"
        ran = f"{name}: {_from_to(worker.joined_s, worker.ended_s)}"
        bars = [
            _bar(window, "start", worker.started_s, worker.joined_s, joined),
            _bar(window, _end_of(worker), worker.joined_s, worker.ended_s, ran),
        ]
        rows.append(_row(name, bars))
    return _picture(window, rows)


def _end_of(worker: Worker) -> str:
    """Whether it failed of itself: those that were told to leave did not."""
    return "failed" if worker.error and not worker.error.startswith(RunAborted.__name__) else "running"


def layer_by_layer(drawn: Timeline) -> str:
    """Every step of each worker, from when the first had joined."""
    workers = [worker for worker in chosen(drawn.workers) if worker.steps]
    if not workers:
        return ""
    began_s = min(worker.steps[0].began_s for worker in workers)
    window = Window(began_s, max(worker.ended_s for worker in workers))
    joined = math.ceil(sum(len(worker.steps) for worker in workers) / MOST_STEPS)
    rows = [_row(f"worker {worker.worker}", list(_steps(window, worker, joined))) for worker in workers]
    return _picture(window, rows)


def chosen(workers: Sequence[Worker]) -> list[Worker]:
    """All, or of very many those that failed, that ended last, and others at even distances; by number."""
    if len(workers) <= MOST_ROWS:
        return list(workers)
    worst = sorted(workers, key=lambda worker: (worker.error is None, -worker.ended_s))[: MOST_ROWS // 2]
    picked = {worker.worker: worker for worker in worst}
    for worker in workers[:: math.ceil(len(workers) / (MOST_ROWS // 2))]:
        picked[worker.worker] = worker
    return [picked[number] for number in sorted(picked)]


def live_chart(layers: Sequence[LayerTotals]) -> str:
    """Samples that are live after each layer."""
    told = [layer for layer in layers if layer.live is not None]
    return _chart(
        told,
        lambda layer: [("live", float(layer.live or 0))],
        lambda layer: f"after layer {layer.layer}: {layer.live:,} live samples",
    )


def bytes_chart(layers: Sequence[LayerTotals]) -> str:
    """What workers sent after each layer."""
    return _chart(
        layers,
        lambda layer: [("send", float(layer.sent_bytes))],
        lambda layer: f"after layer {layer.layer}: {size(layer.sent_bytes)} in {layer.letters:,} letters",
    )


def seconds_chart(layers: Sequence[LayerTotals]) -> str:
    """Where the workers' time went, layer by layer."""
    return _chart(
        layers,
        lambda layer: list(
            zip(KINDS, (layer.wait_s, layer.read_s, layer.compute_s, layer.send_s), strict=True)
        ),
        lambda layer: (
            f"layer {layer.layer}, all workers: waited {seconds(layer.wait_s)}, "
            f"read {seconds(layer.read_s)}, computed {seconds(layer.compute_s)}, sent {seconds(layer.send_s)}"
        ),
    )


def _steps(window: Window, worker: Worker, joined: int) -> Iterator[str]:
    for start in range(0, len(worker.steps), joined):
        steps = worker.steps[start : start + joined]
        at_s, paths = steps[0].began_s, []
        for kind, took_s in _in_order(steps):
            if window.x(at_s + took_s) > window.x(at_s):
                paths.append(_path(kind, window.x(at_s), window.x(at_s + took_s)))
            at_s += took_s
        yield element("g", element("title", text(_told(worker.worker, steps))), *paths)


def _in_order(steps: Sequence[Step]) -> list[tuple[str, float]]:
    """What was done one after the other; of several steps together, each kind as a whole."""
    if len(steps) == 1 and steps[0].spans:
        (step,) = steps
        parts = [
            (kind, s)
            for span in step.spans
            for kind, s in (("read", span.read_s), ("compute", span.compute_s))
        ]
        return [("wait", step.wait_s), *parts, ("send", step.send_s)]
    return [(kind, sum(getattr(step, f"{kind}_s") for step in steps)) for kind in KINDS]


def _told(worker: int, steps: Sequence[Step]) -> str:
    first, last = steps[0].first_layer, steps[-1].layer
    layers = f"layer {last}" if first == last else f"layers {first} to {last}"
    took = ", ".join(f"{kind} {seconds(sum(getattr(step, f'{kind}_s') for step in steps))}" for kind in KINDS)
    sent = sum(step.sent_bytes for step in steps)
    return f"worker {worker}, {layers}: {took}; {steps[-1].live:,} live samples; {size(sent)} sent"


def _from_to(began_s: float, ended_s: float) -> str:
    return f"{seconds(ended_s - began_s)}, from {seconds(began_s)} on"


def _bar(window: Window, kind: str, began_s: float, ended_s: float, title: str) -> str:
    left, right = window.x(began_s), window.x(ended_s)
    return element("g", element("title", text(title)), _path(kind, left, max(right, left + 1)))


def _path(kind: str, left: int, right: int) -> str:
    return f'<path class="{kind}" d="M{left} 0H{right}V{_HIGH}H{left}z"/>'


def _row(name: str, bars: Sequence[str]) -> str:
    svg = element(
        "svg", *bars, viewBox=f"0 0 {_WIDE} {_HIGH}", preserveAspectRatio="none", role="img", aria_label=name
    )
    return element("div", element("span", text(name)), svg, class_="row")


def _picture(window: Window, rows: Sequence[str]) -> str:
    ticks = "".join(
        element("span", text(seconds(tick_s)), style=f"left:{window.x(tick_s) / _WIDE:.2%}")
        for tick_s in _ticks(window)
    )
    axis = element("div", element("span"), element("div", ticks, class_="ticks"), class_="row axis")
    return element("div", *rows, axis, class_="picture")


def _ticks(window: Window) -> list[float]:
    """Some four round moments."""
    length_s = window.ended_s - window.began_s
    if length_s <= 0:
        return []
    step_s = 10 ** math.floor(math.log10(length_s / 2))
    step_s = next(step_s * factor for factor in (1, 2, 5, 10) if length_s / (step_s * factor) <= 4)
    first = math.ceil(window.began_s / step_s)
    return [k * step_s for k in range(first, math.floor(window.ended_s / step_s) + 1)]


def _chart(
    layers: Sequence[LayerTotals],
    heights: Callable[[LayerTotals], list[tuple[str, float]]],
    title: Callable[[LayerTotals], str],
) -> str:
    """A bar for each layer, in pieces; of very many layers, every so many-th."""
    shown = layers[:: max(1, math.ceil(len(layers) / MOST_BARS))]
    top = max((sum(value for _, value in heights(layer)) for layer in shown), default=0.0)
    if not top:
        return ""
    width = _WIDE / len(shown)
    bars = []
    for k, layer in enumerate(shown):
        left, right, y = round(k * width), max(round((k + 1) * width - width / 8), round(k * width) + 1), 0.0
        pieces = []
        for kind, value in heights(layer):
            low, y = y, y + value
            bottom, upper = round(_CHART_HIGH * (1 - low / top)), round(_CHART_HIGH * (1 - y / top))
            if bottom > upper:
                pieces.append(f'<path class="{kind}" d="M{left} {bottom}H{right}V{upper}H{left}z"/>')
        bars.append(element("g", element("title", text(title(layer))), *pieces))
    svg = element(
        "svg",
        *bars,
        viewBox=f"0 0 {_WIDE} {_CHART_HIGH}",
        preserveAspectRatio="none",
        role="img",
        class_="chart",
    )
    ends = element(
        "div",
        text(f"layer {shown[0].layer}"),
        element("span", text(f"layer {shown[-1].layer}")),
        class_="ends",
    )
    return element("div", svg, ends, class_="picture")
