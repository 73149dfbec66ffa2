"""EventBridge Scheduler and scheduled rules, by a clock that tests move."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.conftest import start_cloud
from tests.cloud.helpers import (
    ROLE,
    create_stack,
    delete_stack,
    finish,
    make_function,
    make_machine,
    make_queue,
    one_state,
    queue_arn,
    receive,
    resource,
    subscribed,
    unique,
    update_stack,
    wait_until,
)
from workflows.embedded_cloud import EmbeddedCloud, EmbeddedCloudError

MINUTE, HOUR, DAY = 60, 3_600, 86_400


@pytest.fixture(scope="module")
def scheduled_cloud() -> Iterator[EmbeddedCloud]:
    """A cloud of its own: others' schedules must not fire when its clock is moved."""
    with start_cloud() as started:
        yield started


def schedule(cloud: EmbeddedCloud, expression: str, arn: str, **given: Any) -> str:
    name = unique("schedule")
    target = {"Arn": arn, "RoleArn": ROLE, **given.pop("target", {})}
    cloud.client("scheduler").create_schedule(
        Name=name,
        ScheduleExpression=expression,
        FlexibleTimeWindow=given.pop("window", {"Mode": "OFF"}),
        Target=target,
        **given,
    )
    return name


def bodies(cloud: EmbeddedCloud, url: str) -> list[str]:
    """Everything in a queue, now."""
    found: list[str] = []
    while messages := receive(cloud, url, WaitTimeSeconds=0):
        found += [message["Body"] for message in messages]
    return found


SCHEDULED_TIME = {"Input": "<aws.scheduler.scheduled-time>"}


def times(cloud: EmbeddedCloud, url: str) -> list[datetime]:
    return sorted(datetime.fromisoformat(body) for body in bodies(cloud, url))


def test_the_clock_moves_forward_only(scheduled_cloud: EmbeddedCloud) -> None:
    cloud = scheduled_cloud
    before = cloud.now()
    assert timedelta(hours=1) <= cloud.advance(HOUR) - before < timedelta(hours=1, seconds=30)
    for wrong in (-1.0, math.nan, 1e12):
        with pytest.raises(EmbeddedCloudError, match="advance_s"):
            cloud.advance(wrong)


def test_schedules_fire(scheduled_cloud: EmbeddedCloud) -> None:
    cloud = scheduled_cloud
    url = make_queue(cloud)
    created = cloud.now()
    name = schedule(cloud, "rate(1 hour)", queue_arn(url), target=SCHEDULED_TIME)
    (first,) = wait_until(lambda: times(cloud, url))
    assert abs(first - created) < timedelta(seconds=5)
    cloud.advance(3 * HOUR + 10)
    assert [moment - first for moment in times(cloud, url)] == [timedelta(hours=n) for n in (1, 2, 3)]
    cloud.advance(HOUR / 2)
    assert times(cloud, url) == []
    cloud.client("scheduler").delete_schedule(Name=name)
    cloud.advance(DAY)
    assert times(cloud, url) == []


def test_cron_in_its_time_zone(scheduled_cloud: EmbeddedCloud) -> None:
    cloud = scheduled_cloud
    url = make_queue(cloud)
    name = schedule(
        cloud,
        "cron(30 9 * * ? *)",
        queue_arn(url),
        target=SCHEDULED_TIME,
        ScheduleExpressionTimezone="Asia/Kolkata",
        window={"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15},
    )
    cloud.advance(2 * DAY)
    found = times(cloud, url)
    assert [(moment.hour, moment.minute) for moment in found] == [(4, 0)] * 2
    cloud.client("scheduler").delete_schedule(Name=name)


def test_a_time_that_has_come_fires_by_itself_once_and_the_schedule_goes(
    scheduled_cloud: EmbeddedCloud,
) -> None:
    cloud = scheduled_cloud
    url = make_queue(cloud)
    at = (cloud.now() + timedelta(seconds=3)).strftime("at(%Y-%m-%dT%H:%M:%S)")
    name = schedule(cloud, at, queue_arn(url), target=SCHEDULED_TIME, ActionAfterCompletion="DELETE")
    kept = schedule(cloud, at, queue_arn(url), target=SCHEDULED_TIME)
    assert len(wait_until(lambda: found if len(found := times(cloud, url)) else None)) >= 1
    client = cloud.client("scheduler")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        wait_until(lambda: client.get_schedule(Name=name) is None)
    assert client.get_schedule(Name=kept)["State"] == "ENABLED"
    times(cloud, url)
    cloud.advance(DAY)
    assert times(cloud, url) == []


def test_start_and_end_dates(scheduled_cloud: EmbeddedCloud) -> None:
    cloud = scheduled_cloud
    url = make_queue(cloud)
    start = (cloud.now() + timedelta(hours=5)).replace(microsecond=0)
    schedule(
        cloud,
        "rate(1 hour)",
        queue_arn(url),
        target=SCHEDULED_TIME,
        StartDate=start,
        EndDate=start + timedelta(hours=2),
        ActionAfterCompletion="DELETE",
    )
    cloud.advance(4 * HOUR)
    assert times(cloud, url) == []
    cloud.advance(DAY)
    assert [moment - start for moment in times(cloud, url)] == [timedelta(hours=n) for n in (0, 1, 2)]


def test_disabled_and_updated_schedules_follow(scheduled_cloud: EmbeddedCloud) -> None:
    cloud, client = scheduled_cloud, scheduled_cloud.client("scheduler")
    url, other = make_queue(cloud), make_queue(cloud)
    name = schedule(cloud, "cron(0 * * * ? *)", queue_arn(url), State="DISABLED")
    cloud.advance(3 * HOUR)
    assert bodies(cloud, url) == []
    target = {"Arn": queue_arn(other), "RoleArn": ROLE, "Input": "moved"}
    client.update_schedule(
        Name=name,
        ScheduleExpression="cron(0 0/2 * * ? *)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target=target,
    )
    cloud.advance(4 * HOUR)
    assert (bodies(cloud, url), bodies(cloud, other)) == ([], ["moved"] * 2)
    client.delete_schedule(Name=name)


def test_updates_replace_the_whole_schedule(scheduled_cloud: EmbeddedCloud) -> None:
    cloud, client = scheduled_cloud, scheduled_cloud.client("scheduler")
    name = schedule(cloud, "rate(9 days)", queue_arn("/q"), State="DISABLED", ActionAfterCompletion="DELETE")
    client.update_schedule(
        Name=name,
        ScheduleExpression="rate(10 days)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": queue_arn("/q"), "RoleArn": ROLE},
    )
    shown = client.get_schedule(Name=name)
    assert (shown["State"], shown["ActionAfterCompletion"]) == ("ENABLED", "NONE")
    client.delete_schedule(Name=name)


def test_every_kind_of_target(scheduled_cloud: EmbeddedCloud) -> None:
    cloud = scheduled_cloud
    topic = cloud.client("sns").create_topic(Name=unique("topic"))["TopicArn"]
    from_topic = subscribed(cloud, topic, RawMessageDelivery="true")
    from_bus, from_function = make_queue(cloud), make_queue(cloud)
    source = (
        "import boto3, json, os\n"
        "def handler(event, context):\n"
        "    boto3.client('sqs').send_message(QueueUrl=os.environ['URL'], MessageBody=json.dumps(event))\n"
    )
    function = make_function(cloud, source, Environment={"Variables": {"URL": from_function}})
    function_arn = cloud.client("lambda").get_function(FunctionName=function)["Configuration"]["FunctionArn"]
    machine = make_machine(cloud, one_state({"Type": "Pass", "End": True}))
    events, bus_source = cloud.client("events"), unique("source")
    rule = unique("rule")
    events.put_rule(Name=rule, EventPattern=json.dumps({"source": [bus_source]}))
    events.put_targets(Rule=rule, Targets=[{"Id": "q", "Arn": queue_arn(from_bus), "InputPath": "$.detail"}])
    at = (cloud.now() + timedelta(minutes=5)).strftime("at(%Y-%m-%dT%H:%M:%S)")
    context = {
        key: f"<aws.scheduler.{key}>"
        for key in ("scheduled-time", "schedule-arn", "execution-id", "attempt-number")
    }
    target = {"Input": json.dumps(context)}
    schedule(cloud, at, topic, target=target)
    schedule(cloud, at, function_arn)
    schedule(cloud, at, machine, target=target)
    bus = events.describe_event_bus()["Arn"]
    in_bus = {"Input": '{"n": 1}', "EventBridgeParameters": {"Source": bus_source, "DetailType": "T"}}
    schedule(cloud, at, bus, target=in_bus)
    cloud.advance(10 * MINUTE)

    (message,) = bodies(cloud, from_topic)
    filled = json.loads(message)
    assert filled["attempt-number"] == "1"
    assert ":schedule/default/schedule-" in filled["schedule-arn"]
    assert f"at({filled['scheduled-time'].removesuffix('Z')})" == at
    assert len(filled["execution-id"]) == 16
    client = cloud.client("stepfunctions")
    (execution,) = wait_until(lambda: client.list_executions(stateMachineArn=machine)["executions"])
    assert json.loads(finish(cloud, execution["executionArn"])["output"])["scheduled-time"].endswith("Z")
    assert [json.loads(body) for body in bodies(cloud, from_bus)] == [{"n": 1}]
    (event,) = (json.loads(body) for body in wait_until(lambda: bodies(cloud, from_function)))
    assert (event["source"], event["detail-type"]) == ("aws.scheduler", "Scheduled Event")


def test_a_missing_target_is_tried_again_and_given_up(scheduled_cloud: EmbeddedCloud) -> None:
    cloud = scheduled_cloud
    dead = make_queue(cloud)
    name = unique("late")
    missing = f"arn:aws:sqs:us-east-1:123456789012:{name}"
    at = (cloud.now() + timedelta(minutes=1)).strftime("at(%Y-%m-%dT%H:%M:%S)")
    config = {"DeadLetterConfig": {"Arn": queue_arn(dead)}, "Input": "<aws.scheduler.attempt-number>"}
    schedule(cloud, at, missing, target={**config, "RetryPolicy": {"MaximumRetryAttempts": 0}})
    schedule(cloud, at, missing, target={**config, "RetryPolicy": {"MaximumEventAgeInSeconds": 60}})
    schedule(cloud, at, missing, target=config)
    cloud.advance(2 * MINUTE)
    (given_up,) = receive(cloud, dead, WaitTimeSeconds=0)
    attributes = {key: value["StringValue"] for key, value in given_up["MessageAttributes"].items()}
    assert attributes["EXHAUSTED_RETRY_CONDITION"] == "MaximumRetryAttempts"
    assert (attributes["RETRY_ATTEMPTS"], attributes["TARGET_ARN"]) == ("0", missing)
    assert "NonExistentQueue" in attributes["ERROR_CODE"]
    cloud.advance(5 * MINUTE)
    (too_old,) = receive(cloud, dead, WaitTimeSeconds=0)
    assert (
        too_old["MessageAttributes"]["EXHAUSTED_RETRY_CONDITION"]["StringValue"] == "MaximumEventAgeInSeconds"
    )
    url = cloud.client("sqs").create_queue(QueueName=name)["QueueUrl"]
    cloud.advance(10 * MINUTE)
    (attempt,) = bodies(cloud, url)
    assert int(attempt) > 1
    cloud.advance(2 * DAY)
    assert bodies(cloud, dead) == []


def schedule_resource(url: str, **properties: Any) -> dict[str, Any]:
    given = {
        "ScheduleExpression": "cron(0 * * * ? *)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"Arn": queue_arn(url), "RoleArn": ROLE, "Input": "<aws.scheduler.schedule-arn>"},
        **properties,
    }
    return resource("AWS::Scheduler::Schedule", **given)


def test_scheduler_schedule(scheduled_cloud: EmbeddedCloud) -> None:
    cloud = scheduled_cloud
    url, other = make_queue(cloud), make_queue(cloud)
    outputs = {"Name": {"Value": {"Ref": "S"}}, "Arn": {"Value": {"Fn::GetAtt": ["S", "Arn"]}}}
    stack = create_stack(cloud, {"Resources": {"S": schedule_resource(url)}, "Outputs": outputs})
    arn = stack["Outputs"]["Arn"]
    assert arn.endswith(f":schedule/default/{stack['Outputs']['Name']}")
    cloud.advance(2 * HOUR)
    assert bodies(cloud, url) == [arn] * 2
    changed = {"Resources": {"S": schedule_resource(other)}, "Outputs": outputs}
    assert update_stack(cloud, stack["StackName"], changed)["StackStatus"] == "UPDATE_COMPLETE"
    cloud.advance(2 * HOUR)
    assert (bodies(cloud, url), bodies(cloud, other)) == ([], [arn] * 2)
    delete_stack(cloud, stack["StackName"])
    cloud.advance(2 * HOUR)
    assert bodies(cloud, other) == []


def test_scheduler_schedule_group(scheduled_cloud: EmbeddedCloud) -> None:
    cloud = scheduled_cloud
    url, group = make_queue(cloud), unique("group")
    end = (cloud.now() + timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    resources = {
        "G": resource("AWS::Scheduler::ScheduleGroup", Name=group),
        "S": schedule_resource(
            url, Name="s", GroupName={"Ref": "G"}, EndDate=end, ActionAfterCompletion="DELETE"
        ),
    }
    stack = create_stack(cloud, {"Resources": resources})
    cloud.advance(9 * HOUR)
    found = bodies(cloud, url)
    assert len(found) == 3
    assert all(arn.endswith(f":schedule/{group}/s") for arn in found)
    client = cloud.client("scheduler")
    assert client.list_schedules(GroupName=group)["Schedules"] == []
    delete_stack(cloud, stack["StackName"])
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_schedule_group(Name=group)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ScheduleExpression": "cron(0 0 * * * *)"}, "Invalid Schedule Expression"),
        ({"ScheduleExpression": "rate(0 minutes)"}, "Invalid Schedule Expression"),
        ({"ScheduleExpressionTimezone": "Mars/Olympus"}, "no time zone Mars/Olympus"),
        ({"GroupName": "missing"}, "missing"),
        ({"StartDate": datetime(2020, 1, 1)}, "5 minutes ago"),
    ],
)
def test_refuse_schedules_as_aws_does(
    scheduled_cloud: EmbeddedCloud, changed: dict[str, Any], message: str
) -> None:
    given = {"ScheduleExpression": "rate(1 day)", **changed}
    with pytest.raises(ClientError, match=message):
        schedule(scheduled_cloud, given.pop("ScheduleExpression"), queue_arn("/q"), **given)


def test_rules_fire_on_schedule(scheduled_cloud: EmbeddedCloud) -> None:
    cloud, events = scheduled_cloud, scheduled_cloud.client("events")
    url, rule = make_queue(cloud), unique("rule")
    arn = events.put_rule(Name=rule, ScheduleExpression="rate(1 hour)")["RuleArn"]
    events.put_targets(Rule=rule, Targets=[{"Id": "q", "Arn": queue_arn(url)}])
    cloud.advance(2 * HOUR + MINUTE)
    found = [json.loads(body) for body in bodies(cloud, url)]
    assert [event["detail-type"] for event in found] == ["Scheduled Event"] * 2
    assert (found[0]["source"], found[0]["resources"], found[0]["detail"]) == ("aws.events", [arn], {})
    events.disable_rule(Name=rule)
    cloud.advance(DAY)
    events.enable_rule(Name=rule)
    cloud.advance(HOUR + MINUTE)
    assert len(bodies(cloud, url)) == 1
    with pytest.raises(ClientError, match="ScheduleExpression is not valid"):
        events.put_rule(Name=unique("rule"), ScheduleExpression="cron(0 25 * * ? *)")
    events.remove_targets(Rule=rule, Ids=["q"])
    events.delete_rule(Name=rule)


def test_a_year_fires_a_sane_number_of_times(scheduled_cloud: EmbeddedCloud) -> None:
    cloud = scheduled_cloud
    url = make_queue(cloud)
    name = schedule(cloud, "cron(* * * * ? *)", queue_arn(url), target={"Input": "x"})
    cloud.advance(300 * DAY)
    assert 1000 <= len(bodies(cloud, url)) <= 1002
    cloud.advance(3 * MINUTE)
    assert 2 <= len(bodies(cloud, url)) <= 5
    cloud.client("scheduler").delete_schedule(Name=name)
