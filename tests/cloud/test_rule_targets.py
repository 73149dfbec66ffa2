"""Which events reach the targets of rules, and as what."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from tests.cloud.helpers import (
    invoke,
    make_function,
    make_queue,
    queue_arn,
    receive,
    subscribed,
    unique,
    wait_until,
)
from workflows.embedded_cloud import EmbeddedCloud
from workflows.embedded_cloud.event_patterns import check_pattern, matches
from workflows.embedded_cloud.input_transformer import fill, value_at

EVENT = {
    "id": "1",
    "detail-type": "T",
    "source": "s",
    "account": "123456789012",
    "time": "2026-01-01T00:00:00Z",
    "region": "us-east-1",
    "resources": ["r-1", "r-2"],
    "detail": {
        "key": "inputs/a b.csv",
        "size": 5,
        "ready": True,
        "nothing": None,
        "dotted.key": "yes",
        "ip": "10.0.3.4",
        "parts": [{"name": "one", "n": 1}, {"name": "two", "n": 2}],
        "empty": [],
    },
}


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ({"key": [{"prefix": "inputs/"}]}, True),
        ({"key": [{"prefix": "outputs/"}, {"suffix": ".csv"}]}, True),
        ({"key": [{"suffix": ".CSV"}]}, False),
        ({"key": [{"suffix": {"equals-ignore-case": ".CSV"}}]}, True),
        ({"key": [{"equals-ignore-case": "INPUTS/A B.CSV"}]}, True),
        ({"key": [{"wildcard": "inputs/*.csv"}]}, True),
        ({"key": [{"wildcard": "*/*.tsv"}]}, False),
        ({"key": [{"wildcard": "inputs\\*"}]}, False),
        ({"key": [{"anything-but": {"prefix": "inputs/"}}]}, False),
        ({"key": [{"anything-but": {"suffix": [".tmp", ".bak"]}}]}, True),
        ({"key": [{"anything-but": {"wildcard": "*/a *"}}]}, False),
        ({"key": [{"anything-but": ["inputs/a b.csv", "x"]}]}, False),
        ({"absent": [{"anything-but": "x"}]}, False),
        ({"size": [{"numeric": [">", 0, "<=", 5]}]}, True),
        ({"size": [{"numeric": ["=", 5.0]}]}, True),
        ({"size": [{"numeric": ["<", 5]}]}, False),
        ({"ready": [{"numeric": [">", 0]}]}, False),
        ({"ready": [True]}, True),
        ({"ready": [1]}, False),
        ({"size": ["5"]}, False),
        ({"nothing": [None]}, True),
        ({"nothing": [{"exists": True}]}, True),
        ({"absent": [{"exists": False}]}, True),
        ({"absent": {"deeper": [{"exists": False}]}}, True),
        ({"parts": {"name": [{"exists": False}]}}, False),
        ({"empty": [{"exists": True}]}, False),
        ({"dotted.key": ["yes"]}, True),
        ({"parts": {"name": ["two"]}}, True),
        ({"parts": {"name": ["three"]}}, False),
        ({"ip": [{"cidr": "10.0.0.0/16"}]}, True),
        ({"ip": [{"cidr": "10.1.0.0/16"}]}, False),
        ({"$or": [{"size": [9]}, {"key": [{"prefix": "in"}]}]}, True),
        ({"$or": [{"size": [9]}, {"ready": [False]}], "key": [{"prefix": "in"}]}, False),
    ],
)
def test_patterns(detail: dict[str, Any], expected: bool) -> None:
    check_pattern({"detail": detail})
    assert matches({"detail": detail}, EVENT) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        {},
        {"source": "s"},
        {"source": []},
        {"source": [{"starts-with": "s"}]},
        {"source": [{"prefix": 1}]},
        {"source": [{"prefix": "a", "suffix": "b"}]},
        {"detail": {"n": [{"numeric": [">"]}]}},
        {"detail": {"n": [{"numeric": ["~", 1]}]}},
        {"detail": {"n": [{"exists": "yes"}]}},
        {"detail": {"n": [{"anything-but": {"numeric": ["=", 1]}}]}},
        {"detail": {"n": [{"wildcard": "a**"}]}},
    ],
)
def test_refused_patterns(pattern: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        check_pattern(pattern)
    assert str(refused.value)


def test_match_patterns_as_aws_does(cloud: EmbeddedCloud) -> None:
    client = cloud.client("events")
    event, pattern = json.dumps(EVENT), {"detail": {"parts": {"n": [{"numeric": [">", 1]}]}}}
    assert client.test_event_pattern(EventPattern=json.dumps(pattern), Event=event)["Result"] is True
    pattern = {"detail": {"parts": {"n": [{"numeric": [">", 2]}]}}}
    assert client.test_event_pattern(EventPattern=json.dumps(pattern), Event=event)["Result"] is False
    with pytest.raises(ClientError, match="InvalidEventPattern"):
        client.put_rule(Name=unique("rule"), EventPattern='{"source": [{"starts-with": "a"}]}')


VALUES = {
    "instance": "i-01",
    "state": 'RUN"NING\n',
    "n": 3,
    "object": {"a": "b", "c": [1]},
    "list": ["x", "y"],
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ('"instance <instance> is in <n>"', '"instance i-01 is in 3"'),
        ('"instance \\"<instance>\\" is up"', '"instance \\"i-01\\" is up"'),
        ('{"i": <instance>, "n": <n>, "s": <state>}', '{"i": "i-01", "n": 3, "s": "RUN\\"NING\\n"}'),
        ('{"i": "<instance>", "t": "is \\"<instance>\\""}', '{"i": "i-01", "t": "is \\"i-01\\""}'),
        ('{"o": <object>, "l": [9, <list>]}', '{"o": {"a":"b","c":[1]}, "l": [9, ["x","y"]]}'),
        ('"<object> and <list>"', '"{a:b,c:[1]} and [x,y]"'),
        ('"Run <instance> ended."\n"It said: <state>"', '"Run i-01 ended."\n"It said: RUN"NING\n"'),
        ('{"gone": <missing>, "text": "<missing>!"}', '{"gone": "", "text": "!"}'),
    ],
)
def test_templates(template: str, expected: str) -> None:
    assert fill(template, VALUES) == expected


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_a_value_outside_of_quotation_marks_stays_itself(value: Any) -> None:
    assert json.loads(fill('{"v": <value>}', {"value": value})) == {"v": value}


def test_paths() -> None:
    assert value_at(EVENT, "$.detail-type") == "T"
    assert value_at(EVENT, "$.resources[1]") == "r-2"
    assert value_at(EVENT, "$.detail.parts[*].n") == [1, 2]
    assert value_at(EVENT, "$.detail['dotted.key']") == "yes"
    assert value_at(EVENT, "$") is EVENT
    assert value_at(EVENT, "$.detail.absent.deeper") == ""


def put_rule(cloud: EmbeddedCloud, targets: list[dict[str, Any]], **settings: Any) -> tuple[str, str]:
    """A rule for events of a source of its own; returns the rule's ARN and the source."""
    events, name, source = cloud.client("events"), unique("rule"), unique("source")
    arn = events.put_rule(Name=name, EventPattern=json.dumps({"source": [source]}), **settings)["RuleArn"]
    ids = [{"Id": str(number), **target} for number, target in enumerate(targets)]
    events.put_targets(Rule=name, Targets=ids)
    return arn, source


def put_event(cloud: EmbeddedCloud, source: str, **detail: Any) -> None:
    entry = {"Source": source, "DetailType": "T", "Detail": json.dumps(detail)}
    assert cloud.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0


def test_an_email_like_text_to_a_topic(cloud: EmbeddedCloud) -> None:
    topic = cloud.client("sns").create_topic(Name=unique("topic"))["TopicArn"]
    url = subscribed(cloud, topic, RawMessageDelivery="true")
    template = '"Run <run> has failed: <cause>"\n"See <aws.events.rule-name>, <aws.events.rule-arn>."'
    paths = {"run": "$.detail.run", "cause": "$.detail.cause"}
    transformer = {"InputPathsMap": paths, "InputTemplate": template}
    arn, source = put_rule(cloud, [{"Arn": topic, "InputTransformer": transformer}])
    put_event(cloud, source, run="r-1", cause='it said "no"')
    (message,) = receive(cloud, url)
    name = arn.rsplit("/", 1)[1]
    assert message["Body"] == f'"Run r-1 has failed: it said "no""\n"See {name}, {arn}."'


def test_every_rule_and_target_gets_its_own(cloud: EmbeddedCloud) -> None:
    first, second, third, off = (make_queue(cloud) for _ in range(4))
    whole = {"InputTransformer": {"InputTemplate": '{"was": <aws.events.event>}'}}
    _, source = put_rule(
        cloud,
        [
            {"Arn": queue_arn(first)},
            {"Arn": queue_arn(second), **whole},
            {"Arn": queue_arn(third), "Input": "as it is"},
        ],
    )
    events = cloud.client("events")
    disabled = unique("rule")
    events.put_rule(Name=disabled, EventPattern=json.dumps({"source": [source]}), State="DISABLED")
    events.put_targets(Rule=disabled, Targets=[{"Id": "q", "Arn": queue_arn(off)}])
    put_event(cloud, source, k="v")
    (plain,), (shaped,), (fixed,) = (receive(cloud, url) for url in (first, second, third))
    event = json.loads(plain["Body"])
    assert set(event) == {
        "version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"
    }  # fmt: skip
    del event["detail"]
    assert json.loads(shaped["Body"]) == {"was": event}
    assert fixed["Body"] == "as it is"
    assert receive(cloud, off, WaitTimeSeconds=0) == []


def test_a_function_that_fails_is_invoked_again(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    arn = cloud.client("lambda").get_function(FunctionName=name)["Configuration"]["FunctionArn"]
    _, source = put_rule(cloud, [{"Arn": arn, "Input": json.dumps({"fail": "always"})}])
    put_event(cloud, source)
    wait_until(lambda: invoke(cloud, name)[0]["invocations"] >= 4)


@pytest.mark.parametrize("text", ["not JSON", '"line"\n"line"'])
def test_what_a_function_cannot_read_is_given_up(cloud: EmbeddedCloud, text: str) -> None:
    dead = make_queue(cloud)
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{make_function(cloud)}"
    target = {"Arn": arn, "Input": text, "DeadLetterConfig": {"Arn": queue_arn(dead)}}
    _, source = put_rule(cloud, [target])
    put_event(cloud, source, k=1)
    (message,) = receive(cloud, dead)
    assert message["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "INVALID_JSON"


@pytest.mark.parametrize(
    "resource",
    ["sqs:us-east-1:123456789012:gone", "lambda:us-east-1:123456789012:function:gone",
     "sns:us-east-1:123456789012:gone", "states:us-east-1:123456789012:stateMachine:gone"],
)  # fmt: skip
def test_a_missing_target_is_given_up_at_once(cloud: EmbeddedCloud, resource: str) -> None:
    dead = make_queue(cloud)
    target = {
        "Arn": f"arn:aws:{resource}",
        "DeadLetterConfig": {"Arn": queue_arn(dead)},
        "RetryPolicy": {"MaximumRetryAttempts": 5, "MaximumEventAgeInSeconds": 60},
    }
    arn, source = put_rule(cloud, [target])
    put_event(cloud, source, k=1)
    (message,) = receive(cloud, dead)
    attributes = {key: value["StringValue"] for key, value in message["MessageAttributes"].items()}
    assert attributes.pop("ERROR_MESSAGE")
    assert attributes == {
        "RULE_ARN": arn,
        "TARGET_ARN": target["Arn"],
        "ERROR_CODE": "NO_RESOURCE",
        "RETRY_ATTEMPTS": "0",
    }
    assert json.loads(message["Body"])["detail"] == {"k": 1}
