"""What a seed stands for: a run, and what is made to go wrong while it goes on."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Rules = tuple[Mapping[str, Any], ...]
Kind = Literal["kill", "faults", "mixed", "at large"]

KINDS: Mapping[Kind, int] = {"kill": 4, "faults": 3, "mixed": 2, "at large": 1}
"""What a seed is about, and how often: one worker killed and nothing else; requests and messages that go
wrong, and nobody dies; both; and what concerns the run as a whole."""

STRATEGIES = ("serial", "samples", "rows", "pipeline", "hybrid")
CHANNELS = ("sns", "sqs", "s3")
SILENT = {"serial", "samples"}


@dataclass(frozen=True)
class Trial:
    """One run to be disturbed.

    Attributes
    ----------
    kind
        Of `KINDS`.
    request
        Fields of the run's request, but model and input.
    rules
        What fails, as `workflows.embedded_cloud.EmbeddedCloud.fail` takes it.
    disturbance
        The same, in words.
    stop_after_s
        When the execution is stopped, as in the console; None if it isn't.
    delete_queue_after_s
        When one of the run's own queues is deleted; None if none is.
    """

    seed: int
    kind: Kind
    request: Mapping[str, Any]
    rules: Rules
    disturbance: str
    stop_after_s: float | None = None
    delete_queue_after_s: float | None = None

    @property
    def configuration(self) -> tuple[tuple[str, Any], ...]:
        """What runs that are to be compared have in common."""
        return tuple(sorted(self.request.items()))


def trial(seed: int) -> Trial:
    """The same for the same seed."""
    draw = random.Random(seed)
    strategy = draw.choice(STRATEGIES)
    workers = {"serial": 1, "hybrid": 4}.get(strategy) or draw.choice(
        (2, 3, 4) if strategy != "rows" else (2, 4)
    )
    request: dict[str, Any] = {"strategy": strategy, "workers": workers}
    if strategy not in SILENT:
        request |= {"channel": draw.choice(CHANNELS), "micro_batches": draw.choice((1, 1, 2))}
    kind = draw.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "at large":
        return _at_large(seed, request, draw)
    rules: list[Mapping[str, Any]] = []
    if kind != "faults":
        rules.append(_kill(request, draw))
    if kind != "kill":
        rules += [_fault(request, draw) for _ in range(draw.randint(1, 3))]
    return Trial(seed, kind, request, tuple(rules), "; ".join(map(_told, rules)))


def _kill(request: Mapping[str, Any], draw: random.Random) -> dict[str, Any]:
    """One worker dies, once, at a point of its way."""
    worker, channel = draw.randrange(request["workers"]), request.get("channel")
    points: list[dict[str, Any]] = [
        _point("s3", "GetObject", rf"/tasks/{worker}\b"),
        _point("s3", "PutObject", rf"/checkpoints/{worker}\b"),
        _point("s3", "GetObject", r"models/.*safetensors", draw.randrange(8)),
        _point("s3", "PutObject", rf"/parts/{worker}\b"),
    ]
    # Those of talking count several times: that is most of what a worker does.
    if channel:
        send, receive = _talk(channel)
        points += 3 * [{**send, "skip": draw.randrange(40)}, {**receive, "skip": draw.randrange(60)}]
    return {**draw.choice(points), "fault": "kill", "when": draw.choice(("before", "after")), "times": 1}


def _talk(channel: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Requests by which a worker sends and receives."""
    match channel:
        case "sns":
            return _point("sns", "PublishBatch"), _point("sqs", "ReceiveMessage")
        case "sqs":
            return _point("sqs", "SendMessageBatch"), _point("sqs", "ReceiveMessage")
        case _:
            return _point("s3", "PutObject", "/halo/"), _point("s3", "GetObject", "/halo/")


def _point(service: str, operation: str, where: str = "", skip: int = 0) -> dict[str, Any]:
    return {"service": service, "operation": operation, "where": where, "skip": skip}


def _fault(request: Mapping[str, Any], draw: random.Random) -> dict[str, Any]:
    """Something that a run has to get over by itself."""
    channel = request.get("channel")
    kinds: list[Callable[[], dict[str, Any]]] = [
        lambda: {"service": "s3", "fault": "throttle", "probability": draw.uniform(0.01, 0.1)},
        lambda: {"service": "s3", "fault": "unavailable", "probability": draw.uniform(0.01, 0.1)},
        lambda: {"service": "s3", "operation": "PutObject", "fault": "drop_response", "probability": 0.1},
        lambda: {
            "service": "s3",
            "operation": "GetObject",
            "fault": "truncate",
            "where": "models/",
            "times": 1,
        },
        lambda: {
            "service": "lambda",
            "operation": "Invoke",
            "fault": "throttle",
            "times": draw.randint(1, 3),
        },
        lambda: {
            "service": "lambda",
            "operation": "Invoke",
            "where": f'"worker": ?{draw.randrange(request["workers"])}\\b',
            "fault": "delay",
            "seconds": draw.uniform(0.5, 3),
        },
        lambda: {
            **_point("s3", "GetObject", rf"/tasks/{draw.randrange(request['workers'])}\b"),
            "fault": "freeze",
            "seconds": draw.uniform(0.5, 4),
            "times": 1,
        },
    ]
    if channel in {"sns", "sqs"}:
        delivery = {"service": "sqs", "operation": "Delivery"}
        service, operation = ("sns", "PublishBatch") if channel == "sns" else ("sqs", "SendMessageBatch")
        kinds += [
            lambda: {**delivery, "fault": "duplicate", "probability": draw.uniform(0.05, 0.5)},
            lambda: {**delivery, "fault": "reorder", "probability": 0.3, "seconds": draw.uniform(0.1, 1)},
            lambda: {**delivery, "fault": "delay", "probability": 0.05, "seconds": draw.uniform(0.1, 1)},
            lambda: {**delivery, "fault": "flip", "times": 1, "skip": draw.randrange(20)},
            lambda: {**delivery, "fault": "truncate", "times": 1, "skip": draw.randrange(20)},
            lambda: {"service": service, "operation": operation, "fault": "partial", "probability": 0.2},
            lambda: {"service": service, "operation": operation, "fault": "throttle", "probability": 0.1},
            lambda: {
                "service": service,
                "operation": operation,
                "fault": "drop_response",
                "probability": 0.1,
            },
            lambda: {"service": "sqs", "operation": "ReceiveMessage", "fault": "drop_response", "times": 2},
            lambda: {**_talk(str(channel))[1], "fault": "freeze", "times": 1, "seconds": draw.uniform(1, 8)},
        ]
    elif channel:
        kinds += [
            lambda: {**_point("s3", "GetObject", "/halo/"), "fault": "flip", "times": 1},
            lambda: {
                **_point("s3", "PutObject", "/halo/"),
                "fault": "delay",
                "probability": 0.1,
                "seconds": 0.5,
            },
        ]
    return draw.choice(kinds)()


def _at_large(seed: int, request: dict[str, Any], draw: random.Random) -> Trial:
    """A run that is stopped, loses a queue or a worker, or whose states run twice."""

    def disturbed(told: str, *rules: Mapping[str, Any], **fields: Any) -> Trial:
        return Trial(seed, "at large", request, rules, told, **fields)

    worker = draw.randrange(request["workers"])
    invoke = {"service": "lambda", "operation": "Invoke"}
    after_s = draw.uniform(0.2, 3)
    match draw.choice(("stopped", "queue", "twice", "never started", "state killed")):
        case "stopped":
            return disturbed(f"stopped after {after_s:.1f} s", stop_after_s=after_s)
        case "queue" if request.get("channel") == "sqs":
            return disturbed(f"a queue deleted after {after_s:.1f} s", delete_queue_after_s=after_s)
        case "never started" if request["workers"] > 1:
            rule = {**invoke, "where": f'"worker": ?{worker}\\b', "fault": "throttle"}
            return disturbed(f"worker {worker} never started", rule)
        case "state killed":
            name = draw.choice(("tasks/0", "collected", "summary"))
            when = draw.choice(("before", "after"))
            rule = {**_point("s3", "PutObject", rf"/{name}\b"), "fault": "kill", "when": when, "times": 1}
            return disturbed(f"who writes {name} killed {when} it does", rule)
        case _:
            rule = {
                **invoke,
                "fault": "duplicate",
                "probability": 0.5,
                "where": "(Plan|Collect|Finish)Function",
            }
            return disturbed("Plan, Collect or Finish run twice", rule)


def _told(rule: Mapping[str, Any]) -> str:
    place = " ".join(str(rule[name]) for name in ("service", "operation", "where") if rule.get(name))
    rest = ", ".join(
        f"{name} {round(rule[name], 2) if isinstance(rule[name], float) else rule[name]}"
        for name in ("when", "skip", "times", "probability", "seconds")
        if rule.get(name)
    )
    return f"{rule['fault']} {place} ({rest})" if rest else f"{rule['fault']} {place}"
