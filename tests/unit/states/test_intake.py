"""Intake against moto's S3 and a Step Functions that keeps AWS's promises about names, and dies on demand."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from moto.s3.models import s3_backends

from lamella.config import Config
from lamella.errors import InputError
from lamella.events import RUN_ID, IntakeAnswer, LookEvent, UploadEvent, parse_intake_event
from lamella.intake import InputObject, automatic_request, is_batch, waiting
from lamella.runtime import Runtime
from lamella.states.intake import take_in
from lamella.storage import Bucket

MODEL = "s3://bucket/models/m/"
LOOK = LookEvent(prefix="inputs/")


class Died(Exception):
    """What stands for the end of the function's process."""


def client_error(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, operation)


@dataclass
class StepFunctions:
    """Executions by name; idempotent as StartExecution's reference says."""

    running: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)

    def start_execution(self, stateMachineArn: str, name: str, input: str) -> dict[str, str]:  # noqa: A002, N803
        assert stateMachineArn == "arn:machine"
        if self.running.get(name) == input:
            return {}
        if name in self.running or name in self.ended:
            raise client_error("ExecutionAlreadyExists", "StartExecution")
        self.running[name] = input
        self.starts.append(name)
        return {}

    def get_paginator(self, operation: str) -> Any:
        assert operation == "list_executions"
        return self

    def paginate(self, stateMachineArn: str, statusFilter: str) -> Iterator[dict[str, Any]]:  # noqa: N803
        assert statusFilter == "RUNNING"
        names = iter(list(self.running))
        while page := list(itertools.islice(names, 2)):
            yield {"executions": page}

    def end(self, *names: str) -> None:
        for name in names or list(self.running):
            self.ended[name] = self.running.pop(name)

    def forget(self) -> None:
        """As 90 days after they ended."""
        self.ended.clear()


@dataclass
class Stack:
    """What Intake has at hand."""

    s3: Any
    states: StepFunctions = field(default_factory=StepFunctions)
    logged: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    config: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, body: bytes = b"x") -> str:
        """Put an input; the name of its run."""
        key = f"inputs/{name}"
        etag = self.s3.put_object(Bucket="bucket", Key=key, Body=body)["ETag"].strip('"')
        return InputObject("bucket", key, etag).run

    def marks(self) -> set[str]:
        found = self.s3.list_objects_v2(Bucket="bucket", Prefix="intake/").get("Contents", [])
        return {item["Key"].removeprefix("intake/") for item in found}

    def runtime(self, states: Any = None, s3: Any = None) -> Runtime:
        environment = {
            "LAMELLA_BUCKET": "bucket",
            "LAMELLA_STATE_MACHINE_ARN": "arn:machine",
            "LAMELLA_AUTO_MODEL": MODEL,
        }
        runtime = SimpleNamespace(
            config=Config.read(environment | self.config),
            s3=s3 or self.s3,
            bucket=Bucket(s3 or self.s3, "bucket"),
            stepfunctions=states or self.states,
            logger=SimpleNamespace(info=lambda text, **more: self.logged.append((text, more))),
        )
        return cast("Runtime", runtime)

    def look(self) -> IntakeAnswer:
        return take_in(LOOK, self.runtime())

    def upload(self, name: str) -> IntakeAnswer:
        return take_in(UploadEvent(bucket="bucket", key=f"inputs/{name}"), self.runtime())


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        yield boto3.Session("testing", "testing", region_name="us-east-1").client("s3")


@pytest.fixture
def stack(s3: Any) -> Stack:
    """With an empty bucket but for a model."""
    s3_backends["123456789012"]["aws"].reset()
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="models/m/manifest.json", Body=b"{}")
    return Stack(s3)


class TestNames:
    @given(key=st.text(min_size=1), etag=st.text("0123456789abcdef-", min_size=1))
    def test_are_names_that_step_functions_takes(self, key: str, etag: str) -> None:
        name = InputObject("bucket", f"inputs/{key}", etag).run
        assert re.fullmatch(RUN_ID, name)
        assert re.fullmatch(r"[A-Za-z0-9-]{26,65}", name)

    def test_tell_every_input_from_every_other(self) -> None:
        inputs = [
            InputObject(bucket, key, etag)
            for bucket in ("b", "bi")
            for key in ("inputs/a.npy", "inputs/a.csv", "inputs/x/a.npy", "inputs/" + "a" * 99 + ".npy")
            for etag in ("1", "2", "12")
        ]
        assert len({item.run for item in inputs}) == len(inputs)

    @pytest.mark.parametrize(
        ("key", "readable"),
        [
            ("inputs/samples.npy", "samples"),
            ("inputs/2026/11/Sales report (3).tsv.gz", "Sales-report-3"),
            ("inputs/日本.csv", "input"),
            ("inputs/" + "long-" * 30 + ".npy", ("long-" * 8)[:-1]),
        ],
    )
    def test_begin_with_the_file_s(self, key: str, readable: str) -> None:
        assert re.fullmatch(f"{readable}-[0-9a-f]{{24}}", InputObject("b", key, "1").run)

    def test_do_not_depend_on_when_it_was_put_there(self) -> None:
        assert (
            InputObject("b", "inputs/a.npy", "1", 5.0).run == InputObject("b", "inputs/a.npy", "1", 9.0).run
        )


class TestWaiting:
    @given(
        st.lists(
            st.tuples(st.sampled_from("abcdef"), st.integers(0, 3), st.booleans()), unique_by=lambda t: t[0]
        )
    )
    def test_is_what_has_no_mark_the_oldest_first(self, drawn: list[tuple[str, int, bool]]) -> None:
        items = [InputObject("b", f"inputs/{name}.npy", "1", when) for name, when, _ in drawn]
        marks = {item.mark for item, (_, _, marked) in zip(items, drawn, strict=True) if marked}
        left = waiting(items, marks)
        assert {item.mark for item in left} == {item.mark for item in items} - marks
        assert [(item.modified_s, item.key) for item in left] == sorted((i.modified_s, i.key) for i in left)

    @pytest.mark.parametrize(
        "key",
        ["inputs/", "inputs/x.npy/", "inputs/a\nb.npy", "inputs/notes.txt", "inputs/t.feather", "inputs/npy"],
    )
    def test_is_no_folder_and_no_other_file(self, key: str) -> None:
        assert not is_batch(key)
        assert waiting([InputObject("b", key, "1")], set()) == []


class TestRequest:
    def test_is_the_model_the_input_and_the_options(self) -> None:
        request = automatic_request(MODEL, '{"strategy": "serial", "workers": 1}', "s3://bucket/inputs/a.npy")
        assert (request.model, request.input) == (MODEL, "s3://bucket/inputs/a.npy")
        assert (request.strategy, request.workers) == ("serial", 1)

    @pytest.mark.parametrize(
        ("model", "options", "told"),
        [
            ("", "{}", "deploy with the parameter AutoModel"),
            (MODEL, "{", "AutoOptions is no JSON"),
            (MODEL, "[]", "deploy with a JSON object"),
            (MODEL, '{"input": "s3://b/x"}', "AutoOptions can't have 'input'"),
            (MODEL, '{"model": "s3://b/x"}', "AutoOptions can't have 'model'"),
            (MODEL, '{"strategy": "seriel"}', "did you mean 'serial'"),
            (MODEL, '{"stratgy": "serial"}', "unknown field 'stratgy'"),
        ],
    )
    def test_is_refused_in_one_line(self, stack: Stack, model: str, options: str, told: str) -> None:
        stack.put("a.npy")
        stack.config = {"LAMELLA_AUTO_MODEL": model, "LAMELLA_AUTO_OPTIONS": options}
        with pytest.raises(InputError, match=re.escape(told)):
            stack.look()
        with pytest.raises(InputError, match=re.escape(told)):
            stack.upload("a.npy")
        assert (stack.states.starts, stack.marks()) == ([], set())


class TestSchedule:
    def test_starts_each_input_once(self, stack: Stack) -> None:
        runs = [stack.put(f"{name}.npy", name.encode()) for name in "abc"]
        assert stack.look().started == runs
        assert stack.look() == IntakeAnswer(started=[], waiting=0)
        assert stack.marks() == set(runs)
        asked = json.loads(stack.states.running[runs[0]])
        assert asked == {"model": MODEL, "input": "s3://bucket/inputs/a.npy"}

    def test_an_overwritten_object_is_a_new_input(self, stack: Stack) -> None:
        first = stack.put("a.npy", b"1")
        stack.look()
        second = stack.put("a.npy", b"2")
        assert stack.look().started == [second]
        assert stack.states.starts == [first, second]

    def test_a_failed_run_is_not_started_again_even_when_its_name_is_forgotten(self, stack: Stack) -> None:
        run = stack.put("a.npy")
        stack.look()
        stack.states.end(run)
        stack.states.forget()
        assert stack.look().started == []
        assert stack.states.starts == [run]

    def test_no_more_at_once_than_the_parameter_says(self, stack: Stack) -> None:
        stack.config = {"LAMELLA_SCHEDULE_RUNS": "3"}
        stack.states.start_execution("arn:machine", "by-hand", "{}")
        runs = [stack.put(f"{k}.npy", str(k).encode()) for k in range(5)]
        assert stack.look() == IntakeAnswer(started=runs[:2], waiting=3)
        assert stack.look() == IntakeAnswer(started=[], waiting=3)
        stack.states.end("by-hand", runs[0])
        assert stack.look() == IntakeAnswer(started=runs[2:4], waiting=1)
        stack.states.end()
        assert stack.look() == IntakeAnswer(started=runs[4:], waiting=0)
        assert stack.states.starts == ["by-hand", *runs]

    def test_those_started_before_take_no_place(self, stack: Stack) -> None:
        stack.config = {"LAMELLA_SCHEDULE_RUNS": "1"}
        first, second = stack.put("a.npy", b"a"), stack.put("b.npy", b"b")
        stack.states.ended[first] = "{}"
        assert stack.look() == IntakeAnswer(started=[second], waiting=0)
        assert stack.marks() == {first, second}

    def test_looks_below_its_prefix_alone(self, stack: Stack) -> None:
        stack.put("a.npy")
        inside = stack.put("day/b.npy")
        answer = take_in(LookEvent(prefix="inputs/day/"), stack.runtime())
        assert answer.started == [inside]

    def test_what_is_no_batch_is_told_and_left(self, stack: Stack) -> None:
        for name in ("", "day/", "notes.txt"):
            stack.put(name, b"")
        assert stack.look() == IntakeAnswer(started=[], waiting=0)
        assert stack.logged == [("no samples", {"files": 1, "first": ["inputs/notes.txt"]})]

    def test_pages_of_inputs_and_marks(self, stack: Stack) -> None:
        class Paged(Wrapped):
            def get_paginator(self, operation: str) -> Any:
                pages = stack.s3.get_paginator(operation)
                few = {"PaginationConfig": {"PageSize": 2}}
                return SimpleNamespace(paginate=lambda **keys: pages.paginate(**keys, **few))

        runs = [stack.put(f"{k}.npy", str(k).encode()) for k in range(7)]
        while take_in(LOOK, stack.runtime(s3=Paged(stack.s3))).waiting:
            stack.states.end()
        assert stack.states.starts == runs
        assert stack.marks() == set(runs)


class TestUpload:
    def test_starts_it_once_however_often_it_is_told(self, stack: Stack) -> None:
        run = stack.put("a.npy")
        assert stack.upload("a.npy").started == [run]
        assert stack.upload("a.npy").started == []
        stack.states.end()
        stack.states.forget()
        assert stack.upload("a.npy").started == []
        assert stack.states.starts == [run]

    def test_is_not_held_up_by_other_runs(self, stack: Stack) -> None:
        runs = [stack.put(f"{k}.npy", str(k).encode()) for k in range(9)]
        for k in range(9):
            stack.upload(f"{k}.npy")
        assert stack.states.starts == runs

    def test_schedule_and_upload_see_the_same_object(self, stack: Stack) -> None:
        first, second = stack.put("a.npy", b"a"), stack.put("b.npy", b"b")
        stack.upload("a.npy")
        assert stack.look().started == [second]
        assert stack.upload("b.npy").started == []
        assert stack.states.starts == [first, second]

    def test_a_late_event_is_of_what_is_there_by_then(self, stack: Stack) -> None:
        stack.put("a.npy", b"1")
        later = stack.put("a.npy", b"2")
        stack.upload("a.npy")
        stack.upload("a.npy")
        assert stack.states.starts == [later]

    def test_of_what_is_gone_or_is_no_batch_starts_nothing(self, stack: Stack) -> None:
        stack.put("notes.txt")
        stack.put("day/", b"")
        for name in ("gone.npy", "notes.txt", "day/"):
            assert stack.upload(name) == IntakeAnswer(started=[], waiting=0)
        assert (stack.states.starts, stack.marks()) == ([], set())

    def test_of_another_bucket_is_refused(self, stack: Stack) -> None:
        with pytest.raises(InputError, match=r"other starts no run: this stack's bucket is bucket"):
            take_in(UploadEvent(bucket="other", key="inputs/a.npy"), stack.runtime())

    def test_keys_may_have_any_characters(self, stack: Stack) -> None:
        name = 'a "quoted" + ünï <key>.npy'
        run = stack.put(name)
        assert stack.upload(name).started == [run]
        assert json.loads(stack.states.running[run])["input"] == f"s3://bucket/inputs/{name}"


class TestModel:
    def test_that_is_not_there_uses_up_no_input(self, stack: Stack) -> None:
        run = stack.put("a.npy")
        stack.s3.delete_object(Bucket="bucket", Key="models/m/manifest.json")
        with pytest.raises(InputError, match=r"AutoModel s3://bucket/models/m/ is no prepared model"):
            stack.look()
        assert (stack.states.starts, stack.marks()) == ([], set())
        stack.s3.put_object(Bucket="bucket", Key="models/m/manifest.json", Body=b"{}")
        assert stack.look().started == [run]

    @pytest.mark.parametrize("model", ["s3://bucket/models/m", "s3://bucket/models/m/manifest.json"])
    def test_is_found_however_it_is_written(self, stack: Stack, model: str) -> None:
        run = stack.put("a.npy")
        stack.config = {"LAMELLA_AUTO_MODEL": model}
        assert stack.look().started == [run]

    def test_that_may_not_be_looked_at_is_left_to_plan(self, stack: Stack) -> None:
        class Forbidding(Wrapped):
            def head_object(self, **keys: Any) -> Any:
                raise client_error("403", "HeadObject")

        run = stack.put("a.npy")
        assert take_in(LOOK, stack.runtime(s3=Forbidding(stack.s3))).started == [run]


class Wrapped:
    """A client with some calls of its own."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def dies(client: Any, operation: str, *, after: bool, on_call: int) -> Any:
    """The client, whose n-th call of an operation is the last thing its process does, or nearly does."""
    calls = itertools.count(1)

    def call(*args: Any, **keys: Any) -> Any:
        if next(calls) < on_call:
            return getattr(client, operation)(*args, **keys)
        if after:
            getattr(client, operation)(*args, **keys)
        raise Died

    wrapped = Wrapped(client)
    setattr(wrapped, operation, call)
    return wrapped


@pytest.mark.parametrize("on_call", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("operation", ["start_execution", "put_object"])
@pytest.mark.parametrize("meanwhile", ["runs on", "ended"])
def test_wherever_it_dies_nothing_is_lost_or_doubled(
    stack: Stack, operation: str, after: bool, on_call: int, meanwhile: str
) -> None:
    runs = [stack.put(f"{k}.npy", str(k).encode()) for k in range(3)]
    states = (
        dies(stack.states, operation, after=after, on_call=on_call)
        if operation == "start_execution"
        else None
    )
    s3 = dies(stack.s3, operation, after=after, on_call=on_call) if operation == "put_object" else None
    with pytest.raises(Died):
        take_in(LOOK, stack.runtime(states, s3))
    if meanwhile == "ended":
        stack.states.end()

    stack.look()

    assert stack.states.starts == runs
    assert stack.marks() == set(runs)
    stack.states.end()
    stack.states.forget()
    assert stack.look().started == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("operation", ["start_execution", "put_object"])
def test_wherever_it_dies_an_upload_is_started_once(stack: Stack, operation: str, after: bool) -> None:
    run = stack.put("a.npy")
    event = UploadEvent(bucket="bucket", key="inputs/a.npy")
    states = dies(stack.states, operation, after=after, on_call=1) if operation == "start_execution" else None
    s3 = dies(stack.s3, operation, after=after, on_call=1) if operation == "put_object" else None
    with pytest.raises(Died):
        take_in(event, stack.runtime(states, s3))

    take_in(event, stack.runtime())

    assert stack.states.starts == [run]
    assert stack.marks() == {run}


@pytest.mark.parametrize("second", [Stack.look, lambda stack: stack.upload("1.npy")])
@pytest.mark.parametrize("at", ["list_objects_v2", "start_execution", "put_object"])
def test_another_that_comes_in_between_starts_nothing_twice(
    stack: Stack, second: Callable[[Stack], IntakeAnswer], at: str
) -> None:
    runs = [stack.put(f"{k}.npy", str(k).encode()) for k in range(3)]
    inner = stack.states if at == "start_execution" else stack.s3
    interrupted = Wrapped(inner)
    once = iter([True])

    def call(*args: Any, **keys: Any) -> Any:
        if next(once, False):
            second(stack)
        return getattr(inner, at)(*args, **keys)

    setattr(interrupted, at, call)
    if at == "start_execution":
        take_in(LOOK, stack.runtime(states=interrupted))
    else:
        take_in(LOOK, stack.runtime(s3=interrupted))

    assert sorted(stack.states.starts) == sorted(runs)
    assert stack.marks() == set(runs)


def test_what_step_functions_refuses_is_raised_and_not_marked(stack: Stack) -> None:
    class Throttled(StepFunctions):
        def start_execution(self, **keys: Any) -> dict[str, str]:  # type: ignore[override]
            raise client_error("ThrottlingException", "StartExecution")

    stack.put("a.npy")
    with pytest.raises(ClientError, match="ThrottlingException"):
        take_in(LOOK, stack.runtime(Throttled()))
    assert stack.marks() == set()


class TestEvents:
    def test_are_told_apart(self) -> None:
        assert parse_intake_event({"prefix": "inputs/day/"}) == LookEvent(prefix="inputs/day/")
        upload = {"bucket": "b", "key": "inputs/a\n.npy"}
        assert parse_intake_event(upload) == UploadEvent(**upload)

    @pytest.mark.parametrize(
        "wrong",
        [
            {},
            {"prefix": "runs/"},
            {"prefix": "inputs/", "more": 1},
            {"bucket": "b", "key": "uploads/a.npy"},
            {"key": "inputs/a.npy"},
        ],
        ids=str,
    )
    def test_others_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="Event, "):
            parse_intake_event(wrong)
