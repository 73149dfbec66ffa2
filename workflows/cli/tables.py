"""Results as tables."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.table import Table
from rich.text import Text

from lamella.history import PastRun
from lamella.quantities import size, usd

# Of the halo rows of contiguous blocks: a cut that saves less is said to.
LEAST_SAVED = 0.1
_BLOCKS = "▁▂▃▄▅▆▇█"


def pairs(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    """A table of names and values."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, title_style="bold")
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def run_table(answer: Mapping[str, Any]) -> Table:
    """What a run did, took and cost."""
    seconds, cost = answer["seconds"], answer["cost_usd"]
    rows = [
        ("status", str(answer["status"])),
        ("plan", _plan(answer)),
        *(
            ("attempt", f"{failed['cause']}: launched once more")
            for failed in answer.get("failed_attempts", [])
        ),
        ("samples", f"{answer['samples']:,}"),
        ("categories", f"{answer['categories']:,} samples with an output that is not zero"),
        ("seconds", ", ".join(_seconds(seconds))),
        ("cost", f"{usd(cost['total'])}  ({_cost_parts(cost)})"),
    ]
    expected = answer.get("predicted")
    if expected:
        text = f"{expected['seconds']:.2f} s, {usd(expected['usd']['total'])}, mostly {expected['bound']}"
        rows.append(("predicted", f"{text} ({expected['assumed'][1]})"))
    if answer.get("restarted"):
        rows.insert(
            4, ("restarted", f"{answer['restarted']} times, a worker that had died or failed went on")
        )
    return pairs(f"run {answer['run_id']}", rows)


def _seconds(seconds: Mapping[str, float]) -> Iterator[str]:
    """What a run took; that it waited for its turn is said only where it did."""
    for name, value in seconds.items():
        if value or name != "waited":
            yield f"{name} {value:.2f}"


def _plan(answer: Mapping[str, Any]) -> str:
    """How a run was cut, as far as it says."""
    said = [answer["strategy"], answer["channel"], f"{answer['workers']} workers"]
    if answer.get("groups", 1) > 1:
        said[-1] += f" in {answer['groups']} groups"
    if answer.get("micro_batches", 1) > 1:
        said.append(f"{answer['micro_batches']} micro-batches")
    return ", ".join(said)


def plan_line(record: Mapping[str, Any]) -> str:
    """What Plan chose and expects, in one line."""
    plan, expected = record["plan"], record.get("predicted")
    said = f"plan: {_plan(plan)}, {plan['memory_mb']:,} MB"
    if not expected:
        return said
    return (
        f"{said}: predicted {expected['seconds']:.1f} s and {usd(expected['usd']['total'])}, "
        f"mostly {expected['bound']}"
    )


def runs_lines(runs: Sequence[PastRun]) -> str:
    """Runs, one a line; times are this machine's.

    Not a table, which a narrow terminal would cut: ids are to be copied.
    """
    rows = [("run", "status", "started", "seconds", "strategy", "workers", "cost")]
    for run in runs:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.started_s))
        seconds = f"{run.seconds:.1f}" if run.seconds is not None else ""
        workers = f"{run.workers}" if run.workers is not None else ""
        cost = usd(run.cost_usd) if run.cost_usd is not None else ""
        rows.append((run.run_id, run.status, started, seconds, run.strategy or "", workers, cost))
    return lines(rows, to_the_right={3, 5, 6})


def lines(rows: Sequence[Sequence[str]], to_the_right: Container[int] = ()) -> str:
    """Rows of cells, one a line, in columns as wide as they need."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if k in to_the_right else text.ljust(width)
            for k, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def usage_table(usage: Mapping[str, Mapping[str, float]]) -> Table:
    """Calls, billed units and bytes by operation."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("operation")
    for name in ("calls", "billed", "bytes"):
        table.add_column(name, justify="right")
    for operation, count in sorted(usage.items()):
        billed = count["billed"]
        table.add_row(
            operation,
            f"{count['calls']:,.0f}",
            f"{billed:,.0f}" if float(billed).is_integer() else f"{billed:,.2f}",
            size(count["bytes"]) if count["bytes"] else "",
        )
    return table


def little_saved(cuts: Sequence[Mapping[str, Any]]) -> str:
    """Which cuts save too little to be worth their messages, and what to do; nothing if none."""
    poor = [f"{cut['workers']:,}" for cut in cuts if cut["halo_rows"] and cut["saved"] < LEAST_SAVED]
    if not poor:
        return ""
    which = (
        f"the cut for {poor[0]} workers saves"
        if len(poor) == 1
        else f"cuts for {', '.join(poor)} workers save"
    )
    return (
        f"{which} less than {LEAST_SAVED:.0%} of the halo rows of contiguous blocks: where a worker can hold "
        "the model, the strategies samples and serial send none"
    )


def prep_table(
    report: Mapping[str, Any], cuts: Sequence[Mapping[str, Any]], out: str
) -> tuple[Table, Table, str]:
    """What ``lamella prep`` wrote, how well it cut, and where that is not well."""
    head = pairs(
        f"model {out}",
        [
            ("layers", f"{report['layers']:,}"),
            ("features, outputs", f"{report['features']:,}, {report['outputs']:,}"),
            ("weights", f"{report['weights']:,} in {size(report['bytes'])}"),
            ("seconds", f"{report['seconds']:.1f}"),
        ],
    )
    table = Table(box=None, header_style="dim")
    for name in ("workers", "halo rows", "pairs", "largest worker / mean", "in a layer", "saved on blocks"):
        table.add_column(name, justify="right")
    for cut in cuts:
        table.add_row(
            f"{cut['workers']:,}",
            f"{cut['halo_rows']:,}",
            f"{cut['pairs']:,}",
            f"{cut['largest_share']:.3f}",
            f"{cut['balance']:.3f}",
            f"{cut['saved']:.0%}",
        )
    return head, table, little_saved(cuts)


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """A row of bars, the largest full height; several values share a cell by their mean."""
    if not values:
        return ""
    cells = min(width, len(values))
    edges = [round(i * len(values) / cells) for i in range(cells + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    top = max(means) or 1.0
    return "".join(_BLOCKS[min(int(mean / top * len(_BLOCKS)), len(_BLOCKS) - 1)] for mean in means)


def _cost_parts(cost: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {usd(value)}" for name, value in cost.items() if name != "total" and value)
