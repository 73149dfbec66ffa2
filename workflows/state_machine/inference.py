"""The state machine of a run: Plan, Workers, Collect, Finish, and what happens when one of them fails.

::

    Plan ─→ Launch ─→ Workers or DistributedWorkers ─→ Collect ─→ Finish     the output is Finish's answer
      │ ↖       ↓                │                        │         │
      │  WaitForTurn             │                        │         │
      └──────────────────────────┴────────────────────────┴─────────┴─→ FinishFailed ─→ Failed
                                                                             │     with Finish's error, cause
                                                                             └─→ NotReleased   Finish failed

Where other runs hold what this one needs, Plan puts it in line and answers when to ask again: WaitForTurn
waits, and Plan is asked until the run has its turn, or has waited as long as it may.

Both Maps have one iteration per worker: Worker, and if it fails RecordError, then WorkerFailed. A failing
inline Map tells the states after it the error of one iteration, a Distributed Map only that there were some;
the objects that RecordError writes tell all.

Workers is an inline Map, which starts its iterations at once and runs 40 at a time. DistributedWorkers is for
gangs above that: each worker is an execution of its own, with a history of its own, so that 1,000 of them fit
an execution's 25,000 events. Its items are read from S3, and an iteration's output is nothing: the input of a
state and the results of all iterations may have 256 KiB.

States that clean up take the execution and run from the context object, never from an earlier answer: they
have to work when Plan failed, and Plan's input can be anything that a user types.
"""

from __future__ import annotations

from typing import Any

from lamella.failures import DEATHS, PASSING
from workflows.state_machine.asl import (
    Catch,
    Chain,
    Choice,
    ChoiceRule,
    DistributedMap,
    DynamicFail,
    Graph,
    InlineMap,
    JitteredRetry,
    Json,
    Task,
    Wait,
)

COMMENT = (
    "Lamella: distributed inference by a gang of Lambda functions. Rendered from workflows/state_machine; "
    "don't edit by hand."
)
INLINE_MAP_CONCURRENCY = 40
"""Iterations that an inline Map runs at a time; a gang must fit: none of it ends before all have begun."""

DISTRIBUTED_MAP_CONCURRENCY = 1000
"""As many workers as a run may have; template.yaml's MaxWorkers is at most this."""

LABEL = "Workers"
"""What children's ARNs have after the machine's name, and what template.yaml's permissions name them by."""

TASK_TIMEOUT_S = 930
"""Above any Lambda function's 900 s, so that a function's own timeout, which names it, is what is seen.

It only ends a wait for an answer that never comes. The language takes a number here, or a path into the
state's input; a substitution in template.yaml would be text.
"""

WORKER_TURNED_AWAY = 30
"""How often a worker is tried again where Lambda runs all that it may: for some 140 s.

It is the gang's deadline to start (template.yaml's StartDeadline, 120 s) that ends a run whose workers can't
all run; only where not one of them does, nobody is there to see it pass.
"""

WORKER_RESTARTS = 3
"""How often a worker that died, or failed in a way that may pass, is started again."""

INVOKE = "arn:${Partition}:states:::lambda:invoke"
GET_OBJECT = "arn:${Partition}:states:::s3:getObject"
PUT_OBJECT = "arn:${Partition}:states:::aws-sdk:s3:putObject"
RUN: Json = {"run.$": "$.run", "attempt.$": "$.attempt"}


def inference() -> Json:
    """The whole state machine, in the Amazon States Language (JSONPath)."""
    finish = _invoke("Finish", "${FinishFunctionArn}", _finish_payload("SUCCEEDED"), output_path="$.Payload")
    collect = _invoke("Collect", "${CollectFunctionArn}", RUN, result_path=None)
    workers = InlineMap(
        "Workers",
        _worker(""),
        items_path="$.workers",
        item_selector={**RUN, "function.$": "$.function", "worker.$": "$$.Map.Item.Value"},
        max_concurrency=INLINE_MAP_CONCURRENCY,
        # Parts are in S3; Plan's answer is what the states after this need.
        result_path=None,
    )
    distributed = DistributedMap(
        "DistributedWorkers",
        _worker("Distributed"),
        item_reader={
            "Resource": GET_OBJECT,
            "ReaderConfig": {"InputType": "JSON"},
            "Parameters": {"Bucket": "${Bucket}", "Key.$": "$.items"},
        },
        max_concurrency=DISTRIBUTED_MAP_CONCURRENCY,
        # One worker's failure is the run's.
        tolerated_failure_count=0,
        label=LABEL,
        result_path=None,
    )
    wait = Wait("WaitForTurn", seconds_path="$.wait_s")
    launch = Choice("Launch")
    launch.add_choice(ChoiceRule.IsPresent("$.wait_s", True), wait)
    launch.add_choice(ChoiceRule.IsString("$.items", True), distributed)
    launch.default_choice(workers)
    plan = _invoke(
        "Plan",
        "${PlanFunctionArn}",
        {
            "execution.$": "$$.Execution.Id",
            "run.$": "$$.Execution.Name",
            "request.$": "$$.Execution.Input",
        },
        output_path="$.Payload",
    )
    failure = _failure()
    for state in (plan, workers, distributed, collect, finish):
        # The error replaces the input, which may be no object for a ResultPath to point into.
        state.add_catch(Catch(error_equals=["States.ALL"], next_step=failure))
    Chain([plan, launch])
    wait.next(plan)
    Chain([workers, collect, finish])
    distributed.next(collect)
    definition: Json = Graph(plan, comment=COMMENT).to_dict()
    return definition


def _worker(kind: str) -> Any:
    """One iteration of a Map; ``$`` is {run, attempt, function, worker}.

    Retry and Catch are on the task: on the Map, a Retry would run every worker again.

    Parameters
    ----------
    kind
        What the names of its states begin with: they have to be unique in the whole machine.
    """
    failed = DynamicFail(
        f"{kind}WorkerFailed",
        error_path="$.error.Error",
        # The whole error: a timeout may lack a Cause, and a path to nothing is an error that nothing catches.
        cause_path="States.Format('worker {}: {}', $.worker, States.JsonToString($.error))",
    )
    record = Task(
        f"{kind}RecordError",
        resource=PUT_OBJECT,
        parameters={
            "Bucket": "${Bucket}",
            "Key.$": "States.Format('runs/{}/errors/{}.json', $.run, $.worker)",
            "ContentType": "application/json",
            "Body": {
                "worker.$": "$.worker",
                "attempt.$": "$.attempt",
                "function.$": "$.function",
                "error.$": "$.error",
                "failed_at.$": "$$.State.EnteredTime",
                # Its history tells of the worker's earlier starts; a Distributed Map's workers have one each.
                "execution.$": "$$.Execution.Id",
            },
        },
        result_path=None,
        timeout_seconds=60,
        retry=[
            JitteredRetry(
                error_equals=["States.ALL"],
                interval_seconds=1,
                max_attempts=3,
                backoff_rate=2.0,
                max_delay_seconds=4,
                jitter_strategy="FULL",
            )
        ],
    )
    record.add_catch(Catch(error_equals=["States.ALL"], result_path=None, next_step=failed))
    worker = _invoke(
        f"{kind}Worker",
        "$.function",
        {**RUN, "worker.$": "$.worker"},
        times_turned_away=WORKER_TURNED_AWAY,
        # A worker goes on from its checkpoint; without checkpoints it says that it can't, and that ends it.
        again=_retry(WORKER_RESTARTS, *sorted(DEATHS), *sorted(PASSING)),
        result_path=None,
        output_path=None,
    )
    Chain([record, failed])
    worker.add_catch(Catch(error_equals=["States.ALL"], result_path="$.error", next_step=record))
    return worker


def _failure() -> Any:
    """What every failure comes to; ``$`` is the error."""
    finish = _invoke(
        "FinishFailed",
        "${FinishFunctionArn}",
        _finish_payload("FAILED") | {"error.$": "$"},
        output_path="$.Payload",
    )
    failed = DynamicFail("Failed", error_path="$.error", cause_path="$.cause")
    not_released = DynamicFail(
        "NotReleased",
        error="NotReleased",
        cause_path=(
            "States.Format('Finish, which releases what a failed run held, failed as well: {}', "
            "States.JsonToString($))"
        ),
    )
    finish.add_catch(Catch(error_equals=["States.ALL"], result_path="$.finish", next_step=not_released))
    return Chain([finish, failed])


def _finish_payload(status: str) -> Json:
    return {"execution.$": "$$.Execution.Id", "run.$": "$$.Execution.Name", "status": status}


def _invoke(
    state_id: str,
    function: str,
    payload: Json,
    times_turned_away: int = 5,
    again: JitteredRetry | None = None,
    **fields: Any,
) -> Any:
    """A task that invokes a function and waits for its answer.

    Parameters
    ----------
    function
        Its ARN, or a path to it.
    times_turned_away
        How often to try again where too many functions run already.
    again
        When to start the function again that died or failed; by default once, after a death.
    fields
        Of the state, further ones.
    """
    name = "FunctionName.$" if function.startswith("$.") else "FunctionName"
    return Task(
        state_id,
        resource=INVOKE,
        parameters={name: function, "Payload": payload},
        timeout_seconds=TASK_TIMEOUT_S,
        retry=[
            # Lambda's own failures: the function mostly hasn't run. Every function may be run twice.
            _retry(5, "Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException"),
            _retry(times_turned_away, "Lambda.TooManyRequestsException"),
            # The function died: once may be the host's fault, twice is its own.
            again or _retry(1, "Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError"),
        ],
        **fields,
    )


def _retry(times: int, *errors: str) -> Any:
    """After 1, 2, 4, 8, 10, 10 ... seconds at most, and half of that on average."""
    return JitteredRetry(
        error_equals=[*errors],
        interval_seconds=1,
        max_attempts=times,
        backoff_rate=2.0,
        max_delay_seconds=10,
        jitter_strategy="FULL",
    )
