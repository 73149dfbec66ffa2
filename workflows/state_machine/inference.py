"""The state machine of a run: Plan, Workers, Collect, Finish, and what happens when one of them fails.

::

    Plan ─→ Workers ─→ Collect ─→ Finish                        the execution's output is Finish's answer
      │        │          │         │
      └────────┴──────────┴─────────┴─→ FinishFailed ─→ Failed  its error and cause are Finish's answer
                                              │
                                              └─→ NotReleased   Finish itself failed

Workers is a Map with one iteration per worker: Worker, and if it fails RecordError, then WorkerFailed. A
failing Map tells the states after it the error of one iteration; the objects that RecordError writes tell
all.

States that clean up take the execution and run from the context object, never from an earlier answer: they
have to work when Plan failed, and Plan's input can be anything that a user types.
"""

from __future__ import annotations

from typing import Any

from workflows.state_machine.asl import (
    Catch,
    Chain,
    DynamicFail,
    Graph,
    InlineMap,
    JitteredRetry,
    Json,
    Task,
)

COMMENT = (
    "Lamella: distributed inference by a gang of Lambda functions. Rendered from workflows/state_machine; "
    "don't edit by hand."
)
INLINE_MAP_CONCURRENCY = 40
"""Iterations that an inline Map runs at a time; a gang must fit: none of it ends before all have begun."""

TASK_TIMEOUT_S = 930
"""Above any Lambda function's 900 s, so that a function's own timeout, which names it, is what is seen.

It only ends a wait for an answer that never comes. The language takes a number here, or a path into the
state's input; a substitution in template.yaml would be text.
"""

INVOKE = "arn:${Partition}:states:::lambda:invoke"
PUT_OBJECT = "arn:${Partition}:states:::aws-sdk:s3:putObject"
RUN: Json = {"run.$": "$.run", "attempt.$": "$.attempt"}


def inference() -> Json:
    """The whole state machine, in the Amazon States Language (JSONPath)."""
    finish = _invoke("Finish", "${FinishFunctionArn}", _finish_payload("SUCCEEDED"), output_path="$.Payload")
    collect = _invoke("Collect", "${CollectFunctionArn}", RUN, result_path=None)
    workers = InlineMap(
        "Workers",
        _worker(),
        items_path="$.workers",
        item_selector={**RUN, "function.$": "$.function", "worker.$": "$$.Map.Item.Value"},
        max_concurrency=INLINE_MAP_CONCURRENCY,
        # Parts are in S3; Plan's answer is what the states after this need.
        result_path=None,
    )
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
    for state in (plan, workers, collect, finish):
        # The error replaces the input, which may be no object for a ResultPath to point into.
        state.add_catch(Catch(error_equals=["States.ALL"], next_step=failure))
    Chain([plan, workers, collect, finish])
    definition: Json = Graph(plan, comment=COMMENT).to_dict()
    return definition


def _worker() -> Any:
    """One iteration of the Map; ``$`` is {run, attempt, function, worker}.

    Retry and Catch are on the task: on the Map, a Retry would run every worker again.
    """
    failed = DynamicFail(
        "WorkerFailed",
        error_path="$.error.Error",
        # The whole error: a timeout may lack a Cause, and a path to nothing is an error that nothing catches.
        cause_path="States.Format('worker {}: {}', $.worker, States.JsonToString($.error))",
    )
    record = Task(
        "RecordError",
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
    worker = _invoke("Worker", "$.function", {**RUN, "worker.$": "$.worker"}, result_path=None)
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


def _invoke(state_id: str, function: str, payload: Json, **fields: Any) -> Any:
    """A task that invokes a function and waits for its answer.

    Parameters
    ----------
    function
        Its ARN, or a path to it.
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
            JitteredRetry(
                error_equals=[
                    "Lambda.ServiceException",
                    "Lambda.AWSLambdaException",
                    "Lambda.SdkClientException",
                    "Lambda.TooManyRequestsException",
                ],
                interval_seconds=1,
                max_attempts=5,
                backoff_rate=2.0,
                max_delay_seconds=10,
                jitter_strategy="FULL",
            ),
            # The function died: once may be the host's fault, twice is its own.
            JitteredRetry(
                error_equals=["Lambda.Unknown", "Sandbox.Timedout", "Runtime.ExitError"],
                interval_seconds=1,
                max_attempts=1,
                backoff_rate=2.0,
                max_delay_seconds=10,
                jitter_strategy="FULL",
            ),
        ],
        **fields,
    )
