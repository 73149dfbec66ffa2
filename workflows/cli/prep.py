"""``lamella prep``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lamella.errors import InputError
from workflows.cli import tables
from workflows.cli.console import Output


class LayersDone(Protocol):
    """Told after each layer how many of how many are done."""

    def __call__(self, done: int, of: int, /) -> None: ...


def prep(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of n{N}-l{k}.tsv, of a model.json, or of .mtx, .npz, .npy layers; one .npz, "
            ".safetensors, .onnx; radixnet:NxL.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write the prepared model.")],
    workers: Annotated[
        list[int] | None,
        typer.Option(
            metavar="P",
            help="Order and cut rows for P workers; may be repeated. 2, 4, 8 ... 64 are cut for anyway.",
        ),
    ] = None,
    partitioner: Annotated[
        str, typer.Option(help="Who owns which row: overlap, hypergraph, blocks, random.")
    ] = "overlap",
    bias: Annotated[float | None, typer.Option(help="Bias of every layer, instead of the source's.")] = None,
    activation: Annotated[
        str | None, typer.Option(help="Activation of every layer: relu, leaky_relu, ...")
    ] = None,
    lo: Annotated[
        str | None, typer.Option(metavar="NUMBER|none", help="Least value of an activation.")
    ] = None,
    hi: Annotated[
        str | None, typer.Option(metavar="NUMBER|none", help="Greatest value of an activation.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Prepare a model: encode its layers and cut them for numbers of workers."""
    # scipy and the readers take half a second to import.
    from model_prep.readers import open_source
    from model_prep.writer import write_model

    output = Output(json)
    given: dict[str, Any] = {"bias": bias, "activation": activation}
    given |= {name: _bound(name, text) for name, text in (("lo", lo), ("hi", hi)) if text is not None}
    opened = open_source(source, **given)
    with layer_bar(output, "preparing") as layers_done:
        report = write_model(opened, out, workers=workers, partitioner=partitioner, progress=layers_done)
    data = asdict(report) | {"out": str(out)}
    head, cuts, note = tables.prep_table(data, data["cuts"], str(out))
    output.result(data | {"note": note or None}, head, cuts, *([note] if note else []))


@contextmanager
def layer_bar(output: Output, title: str) -> Iterator[LayersDone]:
    """A progress bar on stderr, if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.err, transient=True, disable=not output.live) as bar:
        task = bar.add_task(title, total=None)

        def layers_done(done: int, of: int, /) -> None:
            bar.update(task, completed=done, total=of)

        yield layers_done


def _bound(name: str, text: str) -> float | None:
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--{name} {text!r} is neither a number nor 'none'") from error
