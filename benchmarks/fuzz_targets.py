"""What reads the bytes of others, with sound bytes to begin with: for `benchmarks.fuzz`."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import arro3.io
import numpy as np
import onnx
import scipy.io
from arro3.core import Array, Table
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save
from scipy import sparse

from lamella.activations import Activations
from lamella.channels.object_format import find, to_object
from lamella.checkpoint import Checkpoint, Start, parse_checkpoint
from lamella.codec import Base, Bases, decode, encode
from lamella.cut import read_cut
from lamella.dealing import Dealing, parse_dealing
from lamella.engine import Progress, StepRecord
from lamella.events import (
    CollectEvent,
    FinishEvent,
    PlanEvent,
    RecoverEvent,
    WorkerEvent,
    parse_intake_event,
    parse_request,
)
from lamella.files import Directory
from lamella.inputs import read_batch
from lamella.inputs.batch import Batch
from lamella.lease_table import Hold, Place, Units, table_to_json
from lamella.lease_table import Table as LeaseTable
from lamella.leases import Leases
from lamella.manifest import MANIFEST, Manifest, StoredFile, parse_manifest, read_manifest
from lamella.messages import Message, parse_message, run_digest
from lamella.parts import head_bytes, parse_block, parse_head, part_to_bytes
from lamella.plan import Assignment, Plan, SqsAddress, Task, parse_assignment
from lamella.predictions import source_rows
from lamella.records import Ending, PlanRecord, Share, WorkerReport, from_json, to_json
from lamella.shares import share_from_bytes, share_to_bytes
from lamella.strategies import tasks_of
from lamella.streaming import WeightStream
from lamella.tiles import read_tiles
from model_prep.alive import AliveNet
from model_prep.readers import open_source
from model_prep.writer import write_model

FEATURES, SAMPLES = 4, 6


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes
    ----------
    read
        Raises LamellaError where the bytes are not sound; nothing else, whatever they are.
    seeds
        Sound bytes, from which others are made.
    """

    name: str
    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


class _Stored:
    """An S3 client that has one object."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def get_object(self, **_: str) -> dict[str, Any]:
        return {"Body": io.BytesIO(self._data), "ETag": "tag"}


@contextmanager
def targets() -> Iterator[list[Target]]:
    """All of them, while the folder is there that some work in."""
    with tempfile.TemporaryDirectory(prefix="lamella-fuzz-") as name:
        folder = Path(name)
        model = folder / "model"
        write_model(AliveNet(32, 3).source(), model, workers=[2])
        yield [*_of_messages(), *_of_runs(model), *_of_models(model), *_of_inputs(), *_of_sources(folder)]


def _values() -> np.ndarray[Any, np.dtype[np.float32]]:
    draw = np.random.default_rng(0)
    return (draw.standard_normal((SAMPLES, FEATURES)) * (draw.random((SAMPLES, FEATURES)) < 0.6)).astype("f4")


def _of_messages() -> Iterator[Target]:
    draw = np.random.default_rng(1)
    whole = (0, 40)
    base = Base.of(3, np.arange(0, 40, 3), whole)
    blocks = [
        Activations(np.arange(40), draw.standard_normal((5, 40)).astype(np.float32)),
        Activations(np.arange(0, 40, 2), draw.integers(0, 3, (5, 20)).astype(np.float32)),
        Activations(np.arange(0, 40, 3), np.ones((5, 14), np.float32)),
    ]
    encoded = [encode(block, whole, each) for block in blocks for each in (None, base)]
    yield Target("codec", lambda data: (decode(data, 5, whole, base), decode(data, 5, whole)), tuple(encoded))
    message = Message(run_digest("run"), 1, 2, 0, 3, 0, 1, b"payload")
    pointer = replace(message, chunks=0, payload=b"")
    yield Target("message", parse_message, (message.to_bytes(), pointer.to_bytes()))
    objects = (to_object([(1, b"one"), (0, b"two"), (1, b"three")]), to_object([(1, bytes(300))]))
    yield Target("object", lambda data: find(data, 1, "here"), objects)


def _of_runs(model: Path) -> Iterator[Target]:
    manifest = read_manifest(Directory(model))
    cut = read_cut(Directory(model), manifest, 2)
    plan = Plan("rows", "sqs", 2, 1024, SAMPLES, 2)
    tasks = tasks_of(manifest, cut, plan)
    address = SqsAddress(("https://a", "https://b"))
    assignments = [
        Assignment("run", 1, 2, "s3://b/m/", "0" * 64, address, 9.0, task, start_by_s=5.0).to_bytes()
        for task in tasks
    ]
    yield Target("assignment", lambda data: parse_assignment(data, "here"), tuple(assignments))
    request = {
        "model": "s3://b/m/", "input": "s3://b/i.csv", "strategy": "rows", "channel": "sns", "workers": 8,
        "micro_batches": 2, "samples": 5, "memory_mb": 1024, "activations": True, "id_column": "id",
    }  # fmt: skip
    yield Target("request", lambda data: parse_request(_json(data)), (json.dumps(request).encode(),))
    events = [
        {"execution": "arn:x", "run": "r-1", "request": request},
        {"run": "r-1", "attempt": 1, "worker": 3},
        {"run": "r-1", "attempt": 1},
        {"execution": "arn:x", "run": "r", "status": "FAILED", "error": {"Error": "E", "Cause": "c"}},
        {"prefix": "inputs/"},
        {"bucket": "b", "key": "inputs/a.csv"},
        {"execution": "arn:x", "run": "r", "attempt": 1, "error": {"Error": "E", "Cause": "c"}},
    ]
    kinds = {
        "plan": PlanEvent.parse,
        "recover": RecoverEvent.parse,
        "worker": WorkerEvent.parse,
        "collect": CollectEvent.parse,
        "finish": FinishEvent.parse,
        "intake": _intake,
    }
    for name, kind in kinds.items():
        seeds = tuple(json.dumps(event).encode() for event in events)
        yield Target(f"event of {name}", lambda data, kind=kind: kind(_json(data)), seeds)
    held = LeaseTable({0: Hold("a", 5.0)}, {"a": Units(1, 5.0, 0.0)}, (Place("b", 2, 0, 1.0, 9.0),))
    leases = table_to_json(held, "0")
    yield Target("lease", _held, (leases,))
    share = Share((0, 3), (0, SAMPLES))
    step = StepRecord(1, 0.1, 0.1, 0.1, 0.1, 3, began_s=1.0, spans=((0, 1, 0.1, 0.1, 3),))
    report = WorkerReport(0, 1.0, 2.0, 3.0, 1024, (astuple(step),), (1, "stream"), {})
    block = Activations(np.arange(SAMPLES), np.ones((3, SAMPLES), np.float32))
    yield Target("part", partial(_part, share), (part_to_bytes(block, share, 2, report),))
    record = PlanRecord("r", 1, request, plan, "s3://b/m/", 0, 1.0, 2.0, (share,), {})
    yield Target("plan", lambda data: from_json(PlanRecord, data, "here"), (to_json(record),))
    ending = Ending("CloudError: busy", report, ("a line",))
    yield Target("end mark", lambda data: from_json(Ending, data, "here"), (to_json(ending),))
    yield Target("checkpoint", lambda data: parse_checkpoint(data, tasks[0], "here"), _checkpoints(tasks[0]))
    dealing = Dealing(np.array([0, 2, 1], np.uint32)).to_bytes()
    yield Target("dealing", lambda data: parse_dealing(data, 3, [(0, 2), (2, 3)], "here"), (dealing,))
    batch: Batch = read_batch(_npy(_values()), "a.npy", FEATURES)
    given = share_to_bytes(batch, None, (0, SAMPLES))
    yield Target("share", lambda data: share_from_bytes(data, FEATURES, (0, SAMPLES), "here"), (given,))


def _checkpoints(task: Task) -> tuple[bytes, ...]:
    """Of a worker that has begun, that has done a step, and that is through."""
    draw, found = np.random.default_rng(2), []
    for count in (0, 1, len(task.steps)):
        done = task.steps[:count]
        blocks = {}
        for step in done:
            shape = step.parts[-1].rows[1] - step.parts[-1].rows[0], step.samples[1] - step.samples[0]
            blocks[step.samples] = Activations(np.arange(*step.samples), draw.random(shape, np.float32))
        waiting = {step.samples for step in task.steps[count:]}
        bases = Bases()
        bases.sent[1, task.steps[0].samples] = Base.of(1, np.arange(1), task.steps[0].samples)
        progress = Progress(
            count,
            {samples: block for samples, block in blocks.items() if samples in waiting},
            {samples: block for samples, block in blocks.items() if samples not in waiting},
            bases,
            [StepRecord(step.parts[-1].layer, 0.1, 0.1, 0.1, 0.1, 3) for step in done],
        )
        left = Checkpoint(Start(count + 1, "nonce", "stream"), progress, (b"early", b"letter"), began_s=1.0)
        found.append(left.to_bytes())
    return tuple(found)


def _json(data: bytes) -> object:
    """As Step Functions and Lambda hand it on: what is no JSON reaches no function."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _intake(event: object) -> object:
    return parse_intake_event(event) if isinstance(event, dict) else None


def _held(data: bytes) -> object:
    client = cast(Any, _Stored(data))
    return Leases(client, "bucket", lambda: 0.0, lambda _: None).held("run")


def _part(share: Share, data: bytes) -> None:
    until = head_bytes(data, "here")
    head = parse_head(data[:until], share, 2, "here")
    for block in head.blocks:
        parse_block(data[block.start : block.stop], block, share, "here")


def _of_models(model: Path) -> Iterator[Target]:
    manifest = read_manifest(Directory(model))
    yield Target("manifest", lambda data: parse_manifest(data, "here"), ((model / MANIFEST).read_bytes(),))
    for name, path in (("cut", manifest.cuts[2]), ("tiles", manifest.tiles)):
        read = partial(_with_file, model, manifest, path)
        yield Target(name, read, ((model / path).read_bytes(),))
    # A manifest that describes the files otherwise than they are.
    yield Target("model", partial(_opened, model), ((model / MANIFEST).read_bytes(),))


def _with_file(model: Path, manifest: Manifest, path: str, data: bytes) -> None:
    """The model, of which one file has these bytes, as its manifest then says."""
    stored = StoredFile(len(data), hashlib.sha256(data).hexdigest())
    files = _Overlaid(model, path, data)
    _walk(files, replace(manifest, files=manifest.files | {path: stored}))


def _opened(model: Path, data: bytes) -> None:
    _walk(Directory(model), parse_manifest(data, "here"))


@dataclass(frozen=True)
class _Overlaid(Directory):
    changed: str = ""
    data: bytes = b""

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        return self.data[start:stop] if path == self.changed else super().read(path, start, stop)


def _walk(files: Directory, manifest: Manifest) -> None:
    """What Plan, workers and Collect do with a model, but for computing."""
    if 2 not in manifest.cuts:
        return
    cut, tiles = read_cut(files, manifest, 2), read_tiles(files, manifest)
    for task in tasks_of(manifest, cut, Plan("rows", "memory", 2, 1024, 1)):
        with WeightStream(files, manifest, tiles, task.parts) as weights:
            for part in weights:
                layer = manifest.layers[part.layer]
                part.for_kernel(layer, np.arange(layer.columns, dtype=np.int32), layer.columns)
    source_rows(files, manifest.layers[-1])


def _npy(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def _npz(matrix: Any) -> bytes:
    stream = io.BytesIO()
    sparse.save_npz(stream, matrix)
    return stream.getvalue()


def _table(values: Any, suffix: str) -> bytes:
    if suffix == ".csv":
        lines = [f"id{k}," + ",".join(map(str, row)) for k, row in enumerate(values.tolist())]
        return "\n".join(["id,a,b,c,d", *lines]).encode()
    columns = {f"c{k}": Array.from_numpy(np.ascontiguousarray(column)) for k, column in enumerate(values.T)}
    stream = io.BytesIO()
    arro3.io.write_parquet(Table.from_pydict(columns), stream, compression="snappy")
    return stream.getvalue()


def _of_inputs() -> Iterator[Target]:
    values = _values()
    tsv = b"".join(b"%d\t%d\t%d\n" % (k + 1, k % 4 + 1, k * k) for k in range(9))
    plain = b"\n".join(line.split(b",", 1)[1] for line in _table(values, ".csv").split(b"\n"))
    kinds: dict[str, tuple[bytes, ...]] = {
        ".tsv": (tsv, b"1 2 0.5\n2 1 -3e4\n"),
        ".tsv.gz": (gzip.compress(tsv),),
        ".npy": (_npy(values), _npy(values.astype(np.int16)), _npy(np.asfortranarray(values, ">f8"))),
        ".npz": (
            _npz(sparse.csr_array(values)),
            _npz(sparse.coo_array(values)),
            _npz(sparse.csc_array(values)),
        ),
        ".safetensors": (save({"samples": values}), save({"a": values.astype(np.float16)}, {"b": "c"})),
        ".csv": (plain, b"1,2,3,4\n5,6,7,8\n"),
        ".parquet": (_table(values, ".parquet"),),
    }
    for suffix, seeds in kinds.items():
        yield Target(
            f"input {suffix}", lambda data, suffix=suffix: read_batch(data, f"a{suffix}", FEATURES), seeds
        )
    yield Target(
        "input .csv with ids",
        lambda data: read_batch(data, "a.csv", FEATURES, id_column="id"),
        (_table(values, ".csv"),),
    )


def _of_sources(folder: Path) -> Iterator[Target]:
    values = _values()
    mtx = io.BytesIO()
    scipy.io.mmwrite(mtx, sparse.coo_array(values))
    full = io.BytesIO()
    scipy.io.mmwrite(full, values)
    described = {"layers": [{"weight": "w.npy", "bias": 1.5, "bias_on": "nonzero", "hi": 3, "lo": 0}]}
    tensors = save({"layers.0.weight": values, "layers.0.bias": np.ones(SAMPLES, np.float32)})
    kinds: dict[str, tuple[bytes, ...]] = {
        "w.mtx": (mtx.getvalue(), full.getvalue()),
        "w.mtx.gz": (gzip.compress(mtx.getvalue()),),
        "w.npz": (
            _npz(sparse.csr_array(values)),
            _npz(sparse.csc_array(values)),
            _npz(sparse.coo_array(values)),
        ),
        "w.npy": (_npy(values),),
        "w.safetensors": (tensors, save({"w": values}, {"model": json.dumps({"layers": [{"weight": "w"}]})})),
        "w.onnx": (_onnx(values),),
        "model.json": (json.dumps(described).encode(),),
        "n6-l1.tsv": (b"1\t2\t0.5\n6\t1\t-3e-2\n",),
        "n6-l1.tsv.gz": (gzip.compress(b"1\t2\t0.5\n6\t1\t-3e-2\n"),),
    }
    for name, seeds in kinds.items():
        place = folder / name.replace(".", "-")
        place.mkdir()
        if name == "model.json":
            np.save(place / "w.npy", values)
        whole = name == "model.json" or name.startswith("n6")
        yield Target(
            f"source {name}", partial(_source, place / name, place if whole else place / name), seeds
        )


def _source(path: Path, source: Path, data: bytes) -> None:
    path.write_bytes(data)
    for _ in open_source(str(source), bias=0.5):
        pass


def _onnx(values: Any) -> bytes:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, FEATURES])]
    outputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, [None, SAMPLES])]
    constants = [numpy_helper.from_array(values, "w"), numpy_helper.from_array(np.ones(SAMPLES, "f4"), "b")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    data: bytes = onnx.ModelProto.SerializeToString(helper.make_model(graph))
    return data
