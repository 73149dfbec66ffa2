"""The kernel against what anyone would use instead, interleaved in one process, every result verified.

Most samples of the official network die: of 10,000 images 337 are left. In the second, ``alive``, none does.
``full`` is the official network's structure with nothing dropped, beside what this core reads from its L2
cache, where each product reads 4 bytes of activations.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks import kernel_sides as sides
from benchmarks.bandwidth import measure_bandwidth
from benchmarks.samples import benchmark_samples
from lamella.activations import Activations
from lamella.kernel import Processor, forward
from model_prep.readers import open_source
from workflows.cli.console import Output

OPTIONAL = Path("build/bench")  # where `make bench` puts torch and GraphBLAS
NAMES = ("ours_1", "ours_2", "csr_csr", "csr_dense", "csr_matvecs", "torch", "graphblas")
SLOW_S = 5.0  # a side that takes longer is not timed again in every round
SLOW_ROUNDS = 2
TOLERANCE = 2e-3  # of sides that sum in another order, after all layers


def problem_sides(
    problem: sides.Problem, processors: tuple[Processor, Processor], output: Output
) -> dict[str, sides.Side | None]:
    """Every way to run it; None where a library is missing."""
    makers: dict[str, Callable[[], sides.Side]] = {
        "ours_1": lambda: sides.ours(problem, processors[0]),
        "ours_2": lambda: sides.ours(problem, processors[1]),
        "csr_csr": lambda: sides.csr_csr(problem),
        "csr_dense": lambda: sides.csr_dense(problem),
        "csr_matvecs": lambda: sides.matvecs_waves(problem),
        "torch": lambda: sides.torch_csr(problem),
        "graphblas": lambda: sides.graphblas(problem),
    }
    made: dict[str, sides.Side | None] = {}
    for name in NAMES:
        try:
            made[name] = makers[name]()
        except ImportError as error:
            output.say(f"{name} is left out ({error}): make bench installs what it needs")
            made[name] = None
    return made


def compare(problem: sides.Problem, rounds: int, output: Output) -> dict[str, Any]:
    """Median seconds of each side, in turns, and whether all of them agree."""
    with Processor(1) as one, Processor(2) as two:
        made = problem_sides(problem, (one, two), output)
        times: dict[str, list[float]] = {name: [] for name, side in made.items() if side}
        expected, equal = None, True
        for done in range(rounds + 1):  # the first of each is to warm up and to verify
            for name, seconds in times.items():
                side = made[name]
                if side is None or (done > SLOW_ROUNDS and min(seconds) > SLOW_S):
                    continue
                began_s = time.perf_counter()
                result = side.run()
                took_s = time.perf_counter() - began_s
                if done or took_s > SLOW_S:
                    seconds.append(took_s)
                if not done:
                    got = side.dense(result)
                    expected = got if expected is None else expected
                    if not agree(got, expected, exact=side.exact):
                        equal = False
                        output.say(f"{name} gives another result")
    return {
        "equal": equal,
        "seconds": {name: median(times[name]) if times.get(name) else None for name in NAMES},
    }


def agree(got: sides.Dense, expected: sides.Dense, *, exact: bool) -> bool:
    """Bit for bit, or, of sums in another order, to within their rounding."""
    if got.shape != expected.shape:
        return False
    if exact:
        return bool((got.view(np.uint32) == expected.view(np.uint32)).all())
    return bool(np.allclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE))


def full(layers: int, samples: int, rounds: int) -> dict[str, float | None]:
    """One thread, nothing dropped, at N = 1024."""
    source = open_source(f"radixnet:1024x{layers}")
    problem = sides.Problem(list(source), sides.sparse.csr_array((1024, samples), dtype=np.float32))
    kept = [replace(layer, zeros_to_zeros=False, bias=np.float32(0)) for layer in problem.kernel_layers()]
    values = np.random.default_rng(0).random((1024, samples), np.float32)
    x = Activations(np.arange(samples), values)
    products = sum(layer.nnz for layer in kept) * samples
    seconds, bandwidths = [], []
    with Processor(1) as one:
        for _ in range(rounds):
            bandwidths.append(measure_bandwidth())
            began_s = time.perf_counter()
            forward(kept, x, (0, samples), one)
            seconds.append(time.perf_counter() - began_s)
    edges_per_s = products / median(seconds)
    measured = [pair for pair in bandwidths if pair]
    l2, dram = (median(pair[i] for pair in measured) if measured else None for i in (0, 1))
    return {
        "edges_per_s": edges_per_s,
        "l2_bytes_per_s": l2,
        "dram_bytes_per_s": dram,
        "l2_share": 4 * edges_per_s / l2 if l2 else None,
    }


def shown(result: dict[str, Any]) -> Table:
    """The comparison as a table."""
    table = Table(title=f"{result['network']}, {result['input']}", title_justify="left")
    for name in ("", "official, s", "times ours", "alive, s", "times ours"):
        table.add_column(name, justify="right" if name else "left")
    columns = (result["seconds"], result["alive"]["seconds"])
    for name in NAMES:
        cells = [name]
        for seconds in columns:
            taken = seconds[name]
            cells += [f"{taken:.3f}", f"{taken / seconds['ours_1']:.1f}"] if taken else ["-", "-"]
        table.add_row(*cells)
    return table


def main(
    network: Annotated[
        str, typer.Option(help="A folder of TSV files, or as prep takes it.")
    ] = "radixnet:1024x120",
    alive: Annotated[str, typer.Option(help="The network in which no sample dies.")] = "alive:1024x120",
    alive_samples: Annotated[int, typer.Option(help="As many as every side can do in a minute.")] = 512,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time all sides; exit 1 unless they agree. $LAMELLA_GRAPH_CHALLENGE: folder of the official images."""
    output = Output(json_)
    if OPTIONAL.is_dir():
        sys.path.append(os.fspath(OPTIONAL.resolve()))
    with tempfile.TemporaryDirectory(prefix="lamella-benchmark-") as folder:
        samples = benchmark_samples(1024, Path(folder))
    output.say(f"{network}, {samples.description}")
    official = compare(sides.Problem.of(open_source(network), samples.matrix), rounds, output)
    output.say(f"{alive}, the first {alive_samples} of them")
    second = compare(sides.Problem.of(open_source(alive), samples.matrix[:alive_samples]), rounds, output)
    output.say("nothing dropped")
    result = {
        "network": network,
        "input": samples.description,
        "equal": official["equal"] and second["equal"],
        "seconds": official["seconds"],
        "alive": second | {"network": alive, "samples": alive_samples},
        "full": full(120, 2048, rounds),
    }
    if json_:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        output.out.print(shown(result))
        output.out.print(result["full"])
    if not result["equal"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
