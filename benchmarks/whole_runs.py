"""Whole runs, one after the other, on one embedded cloud, each held to the bits of plain scipy."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from benchmarks.samples import Samples
from lamella.client import Stack, one_line
from lamella.errors import LamellaError
from lamella.events import RunRequest
from lamella.layout import RunKeys
from lamella.slots import SLOTS_A_GROUP
from model_prep.reference import plain_scipy
from model_prep.source import Source
from model_prep.writer import write_model
from workflows.cli.cloud import deployed_cloud
from workflows.cli.console import Output
from workflows.cli.runs import place_input, place_model, run_to_end
from workflows.embedded_cloud import EmbeddedCloud


def slots_for(workers: int) -> dict[str, str]:
    """The template's parameters under which so many workers talk through SNS at a time."""
    return {"SlotGroups": ",".join(str(group) for group in range(-(-workers // SLOTS_A_GROUP)))}


@dataclass(frozen=True)
class Subject:
    """A model and samples that lie on a stack.

    Attributes
    ----------
    network
        The model's name.
    input
        The samples, in words.
    model_uri, input_uri
        Their S3 addresses.
    expected : (samples, outputs) float32
        What plain scipy makes of them.
    """

    network: str
    input: str
    model_uri: str
    input_uri: str
    expected: NDArray[np.float32]


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes
    ----------
    answer
        Of its execution; empty where it failed.
    exact
        Whether every activation has the bits that plain scipy gives.
    seconds
        From the start of its execution until its output was here.
    sent_objects, sent_bytes
        What its workers left in S3 for each other, and how large that was; zeros unless the cloud keeps it.
    error
        Why it failed.
    """

    answer: Mapping[str, Any]
    exact: bool
    seconds: float
    sent_objects: int = 0
    sent_bytes: int = 0
    error: str | None = None


@dataclass(frozen=True)
class BenchmarkCloud:
    """An embedded cloud with the template deployed, for runs that are compared with each other."""

    cloud: EmbeddedCloud
    stack: Stack
    output: Output

    def place(self, source: Source, samples: Samples, workers: Sequence[int]) -> Subject:
        """Prepare a model, upload it and its samples, and have plain scipy run them."""
        model_uri = self._place_model(source, workers)
        input_uri = place_input(self.stack, str(samples.path))
        self.output.say(f"running {source.description} in plain scipy: {samples.description}")
        expected = plain_scipy(source, samples.matrix)
        return Subject(source.description, samples.description, model_uri, input_uri, expected)

    def cut_for(self, subject: Subject, source: Source, workers: Sequence[int]) -> Subject:
        """The same, with its model prepared for other numbers of workers."""
        return replace(subject, model_uri=self._place_model(source, workers))

    def _place_model(self, source: Source, workers: Sequence[int]) -> str:
        self.output.say(f"preparing {source.description} for {', '.join(map(str, workers))} workers")
        with tempfile.TemporaryDirectory(prefix="lamella-benchmark-") as folder:
            write_model(source, Path(folder) / "model", workers=list(workers))
            return place_model(self.stack, str(Path(folder) / "model"))

    def run(self, subject: Subject, **fields: Any) -> Outcome:
        """One run, with these fields of its request; one that fails has an error instead of an answer."""
        request = RunRequest(
            model=subject.model_uri,
            input=subject.input_uri,
            samples=len(subject.expected),
            activations=True,
            **fields,
        )
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="lamella-benchmark-") as folder:
            try:
                finished = run_to_end(self.stack, request, self.output, destination=Path(folder), local=True)
            except LamellaError as error:
                return Outcome({}, False, time.monotonic() - began, error=one_line(str(error)))
            seconds = time.monotonic() - began
            exact = same_bits(load_file(Path(folder) / "activations.safetensors"), subject.expected)
        return Outcome(finished.answer, exact, seconds, *self._sent(finished.handle.run_id))

    def keep_what_is_sent(self) -> None:
        """From now on, objects that a run removes can still be counted: the bucket keeps their versions."""
        self.stack.clients.s3.put_bucket_versioning(
            Bucket=self.stack.bucket, VersioningConfiguration={"Status": "Enabled"}
        )

    def chill(self) -> None:
        """Have the next run start in new execution environments, which have kept no weights yet."""
        functions = self.cloud.client("lambda")
        for page in functions.get_paginator("list_functions").paginate():
            for function in page["Functions"]:
                variables = function.get("Environment", {}).get("Variables", {})
                functions.update_function_configuration(
                    FunctionName=function["FunctionName"],
                    Environment={"Variables": variables | {"BENCHMARK_ROUND": str(time.monotonic_ns())}},
                )

    def _sent(self, run_id: str) -> tuple[int, int]:
        pages = self.stack.clients.s3.get_paginator("list_object_versions").paginate(
            Bucket=self.stack.bucket, Prefix=RunKeys(run_id).halo
        )
        kept = [
            version["Size"]
            for page in pages
            for version in page.get("Versions", ())
            # Without versioning it lists what is there.
            if version["VersionId"] != "null"
        ]
        return len(kept), sum(kept)


@contextmanager
def benchmark_cloud(output: Output, workers: int) -> Iterator[BenchmarkCloud]:
    """A cloud of one's own, on which so many workers can talk at a time, through any channel.

    Raises
    ------
    CloudError
        If it does not start, or the template does not deploy.
    """
    with deployed_cloud(output, parameters=slots_for(workers)) as (cloud, stack):
        yield BenchmarkCloud(cloud, stack, output)


def same_bits(found: Mapping[str, NDArray[np.float32]], expected: NDArray[np.float32]) -> bool:
    """Whether a run's activations are those."""
    got = found["activations"]
    return got.shape == expected.shape and bool(np.array_equal(got.view(np.uint32), expected.view(np.uint32)))
