"""One test for each change to moto; with ``WITHOUT_PATCH=name`` in the environment it fails."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError
from moto import backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from tests.cloud.conftest import Sample
from tests.cloud.helpers import (
    archive,
    create_stack,
    delete_stack,
    finish,
    function_resource,
    invoke,
    is_running,
    logged,
    make_function,
    make_machine,
    make_queue,
    objects,
    one_state,
    queue_arn,
    receive,
    resource,
    run,
    start,
    subscribed,
    task,
    unique,
    wait_until,
)
from workflows.embedded_cloud import EmbeddedCloud
from workflows.embedded_cloud.patches.apply import PATCHES
from workflows.embedded_cloud.patches.requests import list_services_once

PASS = {"Type": "Pass", "End": True}


def test_every_patch_has_a_test() -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    missing = [patch.__name__ for patch in PATCHES if f"def test_{patch.__name__}(" not in tests]
    assert missing == []


# Requests


def test_list_services_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        backends, "list_of_moto_modules", backends.list_of_moto_modules
    )  # put back afterwards
    if "list_services_once" not in os.environ.get("WITHOUT_PATCH", ""):
        unused: Any = None
        list_services_once(unused)
    listed: list[Any] = []
    monkeypatch.setattr(
        os, "listdir", lambda *given, listdir=os.listdir: listed.append(given) or listdir(*given)
    )
    application = DomainDispatcherApplication(create_backend_app)
    assert application.get_backend_for_host("s3") == "s3"
    assert application.get_backend_for_host("nothing") is None
    assert listed == []


# Step Functions


def test_execute_state_machines(cloud: EmbeddedCloud) -> None:
    found = run(cloud, make_machine(cloud, one_state({**PASS, "Result": {"real": 1}})))
    assert json.loads(found["output"]) == {"real": 1}


def test_call_services_at_our_port(cloud: EmbeddedCloud) -> None:
    found = run(cloud, make_machine(cloud, one_state(task(make_function(cloud)))))
    assert found["status"] == "SUCCEEDED"


def test_read_definitions_as_templates_give_them(cloud: EmbeddedCloud) -> None:
    bucket = unique("definitions")
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="m.json", Body=json.dumps(one_state({**PASS, "Result": "${Word}"})))
    location = {"Bucket": bucket, "Key": "m.json"}
    machine = resource(
        "AWS::StepFunctions::StateMachine",
        RoleArn="arn:aws:iam::123456789012:role/any",
        DefinitionS3Location=location,
        DefinitionSubstitutions={"Word": {"Ref": "AWS::Region"}},
    )
    stack = create_stack(cloud, {"Resources": {"M": machine}, "Outputs": {"Arn": {"Value": {"Ref": "M"}}}})
    assert json.loads(run(cloud, stack["Outputs"]["Arn"])["output"]) == "us-east-1"


def test_state_machine_arn_attribute(cloud: EmbeddedCloud) -> None:
    machine = resource(
        "AWS::StepFunctions::StateMachine",
        RoleArn="arn:aws:iam::123456789012:role/any",
        DefinitionString=json.dumps(one_state(PASS)),
    )
    outputs = {"Arn": {"Value": {"Fn::GetAtt": ["M", "Arn"]}}}
    arn = create_stack(cloud, {"Resources": {"M": machine}, "Outputs": outputs})["Outputs"]["Arn"]
    assert ":stateMachine:" in arn


def test_name_executions(cloud: EmbeddedCloud) -> None:
    machine = make_machine(cloud, one_state(PASS))
    first, second = start(cloud, machine), start(cloud, machine)
    assert first != second
    assert {finish(cloud, each)["status"] for each in (first, second)} == {"SUCCEEDED"}


def test_name_lambda_errors_as_aws_does(cloud: EmbeddedCloud) -> None:
    source = (
        "import os, urllib.request as u\n"
        "def handler(event, context):\n"
        "    base = 'http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/2018-06-01/runtime/invocation/'\n"
        "    u.urlopen(u.Request(base + context.aws_request_id + '/error', data=b'{}', method='POST'))\n"
        "    os._exit(0)\n"
    )
    found = run(cloud, make_machine(cloud, one_state(task(make_function(cloud, source)))))
    assert found["error"] == "Lambda.Unknown"


def map_state(function: str, mode: str, **fields: Any) -> dict[str, Any]:
    config = {"Mode": mode} if mode == "INLINE" else {"Mode": mode, "ExecutionType": "STANDARD"}
    processor = {"ProcessorConfig": config, **one_state(task(function, **fields.pop("task", {})))}
    return {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": processor, "End": True, **fields}


def test_map_passes_on_states_errors(cloud: EmbeddedCloud) -> None:
    state = map_state(make_function(cloud), "INLINE", task={"TimeoutSeconds": 1})
    found = run(cloud, make_machine(cloud, one_state(state)), {"items": [{"sleep_s": 4}]})
    assert (found["status"], found["error"]) == ("FAILED", "States.Timeout")


def test_distributed_map_fails_with_its_items(cloud: EmbeddedCloud) -> None:
    function = make_function(cloud)
    items = {"items": [{"value": 1}, {"fail": "x"}, {"value": 2}]}
    strict = run(cloud, make_machine(cloud, one_state(map_state(function, "DISTRIBUTED"))), items)
    assert (strict["status"], strict["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    tolerant = one_state(map_state(function, "DISTRIBUTED", ToleratedFailureCount=1))
    assert run(cloud, make_machine(cloud, tolerant), items)["status"] == "SUCCEEDED"


def test_objects_as_json_text_in_sdk_calls(sample: Sample) -> None:
    bucket, key = sample.outputs["BucketName"], unique("object")
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:putObject",
        "Parameters": {"Bucket": bucket, "Key": key, "Body": {"a.$": "$.a"}},
        "End": True,
    }
    assert (
        run(sample.cloud, make_machine(sample.cloud, one_state(state)), {"a": [1, "ü"]})["status"]
        == "SUCCEEDED"
    )
    assert json.loads(objects(sample.cloud, bucket)[key]) == {"a": [1, "ü"]}


def test_quiet_engine(cloud: EmbeddedCloud) -> None:
    machine = make_machine(cloud, one_state(task(make_function(cloud))))
    log = cloud.state_dir / "server.log"
    before = log.stat().st_size
    run(cloud, machine, {"fail": "quietly"})
    assert b"StateTask" not in log.read_bytes()[before:]


def test_stop_really_stops(sample: Sample) -> None:
    cloud, bucket, key = sample.cloud, sample.outputs["BucketName"], unique("after-stop")
    mark = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:putObject",
        "Parameters": {"Bucket": bucket, "Key": key, "Body": {}},
        "End": True,
    }
    work = map_state(make_function(cloud), "INLINE", Catch=[{"ErrorEquals": ["States.ALL"], "Next": "Mark"}])
    del work["End"]
    machine = make_machine(
        cloud, {"StartAt": "Work", "States": {"Work": {**work, "Next": "Mark"}, "Mark": mark}}
    )
    execution = start(cloud, machine, {"items": [{"sleep_s": 2}] * 3})
    time.sleep(0.7)
    client = cloud.client("stepfunctions")
    client.stop_execution(executionArn=execution)
    assert client.describe_execution(executionArn=execution)["status"] == "ABORTED"
    time.sleep(2.5)
    found = client.describe_execution(executionArn=execution)
    assert found["status"] == "ABORTED"
    assert found["stopDate"] >= found["startDate"]
    history = client.get_execution_history(executionArn=execution)["events"]
    assert history[-1]["type"] == "ExecutionAborted"
    assert key not in objects(cloud, bucket)


def test_stop_with_error_and_cause(cloud: EmbeddedCloud) -> None:
    execution = start(cloud, make_machine(cloud, one_state({"Type": "Wait", "Seconds": 30, "End": True})))
    client = cloud.client("stepfunctions")
    client.stop_execution(executionArn=execution, error="Asked", cause="by a test")
    found = client.describe_execution(executionArn=execution)
    assert (found["status"], found["error"], found["cause"]) == ("ABORTED", "Asked", "by a test")


def test_describe_executions_as_json(cloud: EmbeddedCloud) -> None:
    machine = make_machine(cloud, one_state({**PASS, "Parameters": {"at.$": "$$.Execution.StartTime"}}))
    assert json.loads(run(cloud, machine)["output"])["at"].endswith("Z")
    text = run(cloud, make_machine(cloud, one_state({**PASS, "Result": "text"})))
    assert json.loads(text["output"]) == "text"
    slow = {"TimeoutSeconds": 1, **one_state({"Type": "Wait", "Seconds": 9, "End": True})}
    found = run(cloud, make_machine(cloud, slow))
    assert found["status"] == "TIMED_OUT"
    assert found["stopDate"] > found["startDate"]


def rule_to_queue(cloud: EmbeddedCloud, pattern: dict[str, Any]) -> str:
    url, rule, events = make_queue(cloud), unique("rule"), cloud.client("events")
    events.put_rule(Name=rule, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=rule, Targets=[{"Id": "q", "Arn": queue_arn(url)}])
    return url


def test_publish_status_changes(cloud: EmbeddedCloud) -> None:
    good = make_machine(cloud, one_state(PASS))
    bad = make_machine(cloud, one_state({"Type": "Fail", "Error": "E", "Cause": "C"}))
    slow = make_machine(
        cloud, {"TimeoutSeconds": 1, **one_state({"Type": "Wait", "Seconds": 9, "End": True})}
    )
    pattern = {"source": ["aws.states"], "detail": {"stateMachineArn": [good, bad, slow]}}
    url = rule_to_queue(cloud, pattern)
    for machine in (good, bad, slow):
        run(cloud, machine, {"k": 1})
    stopped = start(cloud, slow)
    cloud.client("stepfunctions").stop_execution(executionArn=stopped)
    events: list[dict[str, Any]] = []

    def all_arrived() -> bool:
        events.extend(json.loads(message["Body"]) for message in receive(cloud, url))
        return len({(event["detail"]["executionArn"], event["detail"]["status"]) for event in events}) == 8

    wait_until(all_arrived)
    assert {event["detail-type"] for event in events} == {"Step Functions Execution Status Change"}
    ended = {e["detail"]["status"]: e["detail"] for e in events if e["detail"]["status"] != "RUNNING"}
    assert set(ended) == {"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}
    assert json.loads(ended["SUCCEEDED"]["output"]) == {"k": 1}
    assert json.loads(ended["FAILED"]["input"]) == {"k": 1}
    assert ended["ABORTED"]["executionArn"] == stopped


def test_rules_call_lambda_and_step_functions(sample: Sample) -> None:
    cloud, events = sample.cloud, sample.cloud.client("events")
    name, source = unique("rule"), unique("source")
    events.put_rule(Name=name, EventPattern=json.dumps({"source": [source]}))
    scheduled = unique("schedule")
    events.put_rule(Name=scheduled, ScheduleExpression="rate(1 day)")
    arn = cloud.client("lambda").get_function(FunctionName=sample.outputs["OnEndName"])["Configuration"][
        "FunctionArn"
    ]
    template = '{"name": <key>, "whole": <aws.events.event.json>, "text": "k=<key>"}'
    transformer = {"InputPathsMap": {"key": "$.detail.key"}, "InputTemplate": template}
    events.put_targets(Rule=name, Targets=[{"Id": "f", "Arn": arn, "InputTransformer": transformer}])
    events.put_targets(
        Rule=scheduled, Targets=[{"Id": "f", "Arn": arn, "Input": json.dumps({"name": scheduled})}]
    )
    machine = make_machine(cloud, one_state(PASS))
    target = {
        "Id": "m",
        "Arn": machine,
        "InputPath": "$.detail",
        "RoleArn": "arn:aws:iam::123456789012:role/any",
    }
    events.put_targets(Rule=name, Targets=[target])
    entry = {"Source": source, "DetailType": "T", "Detail": json.dumps({"key": source})}
    assert events.put_events(Entries=[entry])["FailedEntryCount"] == 0
    bucket = sample.outputs["BucketName"]
    event = json.loads(wait_until(lambda: objects(cloud, bucket).get(f"ended/{source}.json")))
    assert event["text"] == f"k={source}"
    assert event["whole"]["detail"] == {"key": source}
    client = cloud.client("stepfunctions")
    (execution,) = wait_until(lambda: client.list_executions(stateMachineArn=machine)["executions"])
    assert json.loads(finish(cloud, execution["executionArn"])["output"]) == {"key": source}
    assert f"ended/{scheduled}.json" not in objects(cloud, bucket)


# Lambda


def test_run_functions_as_processes(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{name}"
    sns = cloud.client("sns")
    topic = sns.create_topic(Name=unique("t"))["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
    sns.publish(TopicArn=topic, Message="to a function")
    wait_until(lambda: list(cloud.log_dir.glob(f"{name}-*.log")))
    assert wait_until(lambda: invoke(cloud, name)[0]["invocations"] >= 2)


def test_refuse_runtimes_that_do_not_run_here(cloud: EmbeddedCloud) -> None:
    with pytest.raises(ClientError, match=r"no Python 3\.99 runs on this machine"):
        make_function(cloud, Runtime="python3.99")


def test_keep_logging_config(cloud: EmbeddedCloud) -> None:
    config = {"LogFormat": "JSON", "LogGroup": "/elsewhere"}
    name = make_function(cloud, LoggingConfig=config)
    client = cloud.client("lambda")
    assert client.get_function_configuration(FunctionName=name)["LoggingConfig"] == config
    invoke(cloud, name)
    wait_until(lambda: logged(cloud, "/elsewhere"))


def test_keep_all_function_properties(cloud: EmbeddedCloud) -> None:
    function = function_resource(
        Architectures=["arm64"],
        MemorySize="192",
        Tags=[{"Key": "a", "Value": "b"}],
        TracingConfig={"Mode": "Active"},
    )
    outputs = {"Name": {"Value": {"Ref": "F"}}}
    name = create_stack(cloud, {"Resources": {"F": function}, "Outputs": outputs})["Outputs"]["Name"]
    found = cloud.client("lambda").get_function(FunctionName=name)
    configuration = found["Configuration"]
    assert configuration["Architectures"] == ["arm64"]
    assert configuration["TracingConfig"] == {"Mode": "Active"}
    assert configuration["MemorySize"] == 192
    assert found["Tags"]["a"] == "b"


def test_layer_versions_keep_their_name(sample: Sample) -> None:
    found = sample.cloud.client("lambda").get_function_configuration(
        FunctionName=sample.outputs["WorkerName"]
    )
    (layer,) = found["Layers"]
    assert layer["Arn"].split(":")[-3:-1] == ["layer", "Layer"]


def test_layer_versions_go_with_their_stack(cloud: EmbeddedCloud) -> None:
    bucket, name, client = unique("layers"), unique("layer"), cloud.client("lambda")
    cloud.client("s3").create_bucket(Bucket=bucket)
    cloud.client("s3").put_object(Bucket=bucket, Key="layer.zip", Body=archive())
    layer = resource(
        "AWS::Lambda::LayerVersion", LayerName=name, Content={"S3Bucket": bucket, "S3Key": "layer.zip"}
    )
    stack = create_stack(cloud, {"Resources": {"L": layer}})
    assert name in [each["LayerName"] for each in client.list_layers()["Layers"]]
    delete_stack(cloud, stack["StackName"])
    assert name not in [each.get("LayerName") for each in client.list_layers()["Layers"]]


def test_stop_environments_of_deleted_functions(cloud: EmbeddedCloud) -> None:
    name = make_function(cloud)
    pid = invoke(cloud, name)[0]["pid"]
    assert is_running(pid)
    cloud.client("lambda").delete_function(FunctionName=name)
    wait_until(lambda: not is_running(pid))


# SQS


def test_forget_models(cloud: EmbeddedCloud) -> None:
    """Messages that were received and deleted leave nothing behind in the server."""
    sqs, url = cloud.client("sqs"), make_queue(cloud)
    server = psutil.Process(cloud.pid)

    def pass_through(count: int) -> None:
        body = "x" * 250_000
        for _ in range(count):
            sqs.send_message_batch(
                QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": body} for n in range(4)]
            )
            for message in receive(cloud, url):
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    pass_through(20)
    before = server.memory_info().rss
    pass_through(60)
    assert server.memory_info().rss - before < 30_000_000


def test_constant_time_queues(cloud: EmbeddedCloud) -> None:
    sqs, url = cloud.client("sqs"), make_queue(cloud)
    attributes = {"b": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}
    entries = [{"Id": str(n), "MessageBody": str(n), "MessageAttributes": attributes} for n in range(10)]
    for _ in range(150):
        sqs.send_message_batch(QueueUrl=url, Entries=entries)
    bodies = []
    began = time.monotonic()
    for _ in range(50):
        messages = receive(cloud, url)
        bodies += [message["Body"] for message in messages]
        handles = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
        assert not sqs.delete_message_batch(QueueUrl=url, Entries=handles).get("Failed")
    assert time.monotonic() - began < 4
    assert bodies == [str(n) for n in range(10)] * 50
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessages"] == "1000"


def test_refuse_batches_that_are_too_long(cloud: EmbeddedCloud) -> None:
    sqs, url = cloud.client("sqs"), make_queue(cloud)
    binary = {"b": {"DataType": "Binary", "BinaryValue": b"x" * 400_000}}
    entries = [{"Id": i, "MessageBody": "y" * 100_000, "MessageAttributes": binary} for i in "abc"]
    assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries[:2])["Successful"]) == 2
    with pytest.raises(ClientError, match="BatchRequestTooLong"):
        sqs.send_message_batch(QueueUrl=url, Entries=entries)
    with pytest.raises(ClientError, match="shorter than"):
        sqs.send_message(QueueUrl=url, MessageBody="ü" * 600_000)
    assert len(receive(cloud, url)) == 2


def test_a_message_wakes_a_long_poll(cloud: EmbeddedCloud) -> None:
    sqs, url = cloud.client("sqs"), make_queue(cloud)
    delays = []
    with ThreadPoolExecutor(1) as pool:
        for _ in range(5):
            polling = pool.submit(lambda: (receive(cloud, url, WaitTimeSeconds=10), time.monotonic()))
            time.sleep(0.4)
            sent = time.monotonic()
            sqs.send_message(QueueUrl=url, MessageBody="wake")
            messages, received = polling.result()
            delays.append(received - sent)
            sqs.delete_message(QueueUrl=url, ReceiptHandle=messages[0]["ReceiptHandle"])
    assert min(delays) < 0.02


def test_visibility_delay_and_dead_letters(cloud: EmbeddedCloud) -> None:
    sqs, dead = cloud.client("sqs"), make_queue(cloud)
    policy = json.dumps({"deadLetterTargetArn": queue_arn(dead), "maxReceiveCount": 2})
    url = make_queue(cloud, VisibilityTimeout="1", RedrivePolicy=policy)
    sqs.send_message(QueueUrl=url, MessageBody="late", DelaySeconds=1)
    assert receive(cloud, url, WaitTimeSeconds=0) == []
    (first,) = receive(cloud, url, WaitTimeSeconds=3)
    assert receive(cloud, url, WaitTimeSeconds=0) == []
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    (again,) = receive(cloud, url, WaitTimeSeconds=0, MessageSystemAttributeNames=["All"])
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"
    assert receive(cloud, url, WaitTimeSeconds=2) == []
    (letter,) = receive(cloud, dead)
    assert letter["MessageId"] == first["MessageId"]
    with pytest.raises(ClientError, match="ReceiptHandleIsInvalid"):
        sqs.delete_message(QueueUrl=url, ReceiptHandle="nothing")


def test_a_receiver_that_hung_up_swallows_nothing(cloud: EmbeddedCloud) -> None:
    source = (
        "import boto3\n"
        "def handler(event, context):\n"
        "    boto3.client('sqs').receive_message(QueueUrl=event['url'], WaitTimeSeconds=20)\n"
    )
    name, url = make_function(cloud, source, Timeout=2), make_queue(cloud)
    assert invoke(cloud, name, {"url": url})[0]["errorType"] == "Sandbox.Timedout"
    cloud.client("sqs").send_message(QueueUrl=url, MessageBody="for the living")
    assert [message["Body"] for message in receive(cloud, url, WaitTimeSeconds=3)] == ["for the living"]


# SNS


def test_deliver_to_every_subscription(cloud: EmbeddedCloud) -> None:
    sns = cloud.client("sns")
    topic = sns.create_topic(Name=unique("t"))["TopicArn"]
    for number in range(105):
        policy = json.dumps({"to": [str(number)]})
        subscribed(cloud, topic, RawMessageDelivery="true", FilterPolicy=policy)
    last = subscribed(cloud, topic, RawMessageDelivery="true", FilterPolicy=json.dumps({"to": ["last", "x"]}))
    every = subscribed(cloud, topic, RawMessageDelivery="true")
    by_prefix = subscribed(
        cloud, topic, RawMessageDelivery="true", FilterPolicy=json.dumps({"to": [{"prefix": "la"}]})
    )
    to = {"to": {"DataType": "String", "StringValue": "last"}}
    entries = [{"Id": str(n), "Message": str(n), "MessageAttributes": to} for n in range(3)]
    assert len(sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)["Successful"]) == 3
    for url in (last, every, by_prefix):
        assert sorted(message["Body"] for message in receive(cloud, url)) == ["0", "1", "2"]
    added = subscribed(cloud, topic, RawMessageDelivery="true", FilterPolicy=json.dumps({"to": ["last"]}))
    sns.publish(TopicArn=topic, Message="later", MessageAttributes=to)
    assert [message["Body"] for message in receive(cloud, added)] == ["later"]


def test_binary_attributes_in_raw_delivery(cloud: EmbeddedCloud) -> None:
    sns = cloud.client("sns")
    topic = sns.create_topic(Name=unique("t"))["TopicArn"]
    url = subscribed(cloud, topic, RawMessageDelivery="true")
    data = bytes(range(256))
    sns.publish(
        TopicArn=topic, Message="m", MessageAttributes={"b": {"DataType": "Binary", "BinaryValue": data}}
    )
    (message,) = receive(cloud, url)
    assert message["MessageAttributes"]["b"]["BinaryValue"] == data


def test_raw_delivery_can_be_off(cloud: EmbeddedCloud) -> None:
    queue, topic = {"Fn::GetAtt": ["Q", "Arn"]}, {"Ref": "T"}
    resources = {
        "T": resource("AWS::SNS::Topic"),
        "Q": resource("AWS::SQS::Queue"),
        "S": resource(
            "AWS::SNS::Subscription", TopicArn=topic, Endpoint=queue, Protocol="sqs", RawMessageDelivery=False
        ),
    }
    outputs = {"T": {"Value": topic}, "Q": {"Value": {"Ref": "Q"}}}
    found = create_stack(cloud, {"Resources": resources, "Outputs": outputs})["Outputs"]
    cloud.client("sns").publish(TopicArn=found["T"], Message="wrapped")
    (message,) = receive(cloud, found["Q"])
    assert json.loads(message["Body"])["Message"] == "wrapped"


def test_refuse_messages_that_are_too_long(cloud: EmbeddedCloud) -> None:
    sns = cloud.client("sns")
    topic = sns.create_topic(Name=unique("t"))["TopicArn"]
    binary = {"b": {"DataType": "Binary", "BinaryValue": b"x" * 200_000}}
    sns.publish(TopicArn=topic, Message="y" * 62_000, MessageAttributes=binary)
    with pytest.raises(ClientError, match="Message too long"):
        sns.publish(TopicArn=topic, Message="y" * 63_000, MessageAttributes=binary)
    half = {"Message": "y" * 131_072}
    sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[{"Id": i, **half} for i in "ab"])
    entries = [{"Id": i, **half} for i in "ab"] + [{"Id": "c", "Message": "z"}]
    with pytest.raises(ClientError, match="BatchRequestTooLong"):
        sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)


# S3


def test_conditional_writes_are_atomic(sample: Sample) -> None:
    cloud, bucket = sample.cloud, sample.outputs["BucketName"]
    clients = [cloud.client("s3")] * 4
    body = bytes(20 << 20)  # so large that writing it lets another request in between
    refused: list[Any] = []

    def put(client: Any, key: str, **condition: str) -> str | None:
        request = {"Bucket": bucket, "Key": key, "Body": body + uuid.uuid4().bytes, **condition}
        try:
            return str(client.put_object(**request)["ETag"])
        except ClientError as error:
            refused.append(error.response)
            return None

    with ThreadPoolExecutor(len(clients)) as pool:
        for _ in range(3):
            key = unique("lease")
            created = list(pool.map(lambda client, key=key: put(client, key, IfNoneMatch="*"), clients))
            (etag,) = [each for each in created if each]
            replaced = list(
                pool.map(lambda client, key=key, etag=etag: put(client, key, IfMatch=etag), clients)
            )
            assert len([each for each in replaced if each]) == 1
    assert {answer["Error"]["Code"] for answer in refused} == {"PreconditionFailed"}
    assert {answer["ResponseMetadata"]["HTTPStatusCode"] for answer in refused} == {412}


def test_ranged_reads_read_the_range(sample: Sample) -> None:
    s3, bucket = sample.cloud.client("s3"), sample.outputs["BucketName"]
    data = bytes(range(256)) * 400_000
    s3.put_object(Bucket=bucket, Key="large", Body=data)
    server = psutil.Process(sample.cloud.pid)

    def cpu_s() -> float:
        times = server.cpu_times()
        return float(times.user + times.system)

    before = cpu_s()
    for start_at in range(0, 40_000_000, 1_000_000):
        part = s3.get_object(Bucket=bucket, Key="large", Range=f"bytes={start_at}-{start_at + 9}")
        assert part["Body"].read() == data[start_at : start_at + 10]
        assert part["ContentRange"] == f"bytes {start_at}-{start_at + 9}/{len(data)}"
    assert cpu_s() - before < 1.0
    assert s3.get_object(Bucket=bucket, Key="large", Range="bytes=-5")["Body"].read() == data[-5:]
    tail = f"bytes={len(data) - 3}-"
    assert s3.get_object(Bucket=bucket, Key="large", Range=tail)["Body"].read() == data[-3:]
    with pytest.raises(ClientError, match="InvalidRange"):
        s3.get_object(Bucket=bucket, Key="large", Range=f"bytes={len(data)}-")
    s3.delete_object(Bucket=bucket, Key="large")


def test_uploads_are_joined_part_by_part_and_once(sample: Sample) -> None:
    s3, bucket = sample.cloud.client("s3"), sample.outputs["BucketName"]
    where = {"Bucket": bucket, "Key": "joined"}
    upload = {**where, "UploadId": s3.create_multipart_upload(**where, Metadata={"a": "b"})["UploadId"]}
    bodies = [bytes([number]) * (6 << 20) for number in range(1, 4)]
    tags = [
        s3.upload_part(PartNumber=number, Body=body, **upload)["ETag"]
        for number, body in enumerate(bodies, 1)
    ]
    parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
    with pytest.raises(ClientError, match="InvalidPart"):
        s3.complete_multipart_upload(
            MultipartUpload={"Parts": [{"PartNumber": 9, "ETag": tags[0]}]}, **upload
        )

    def complete(_: int) -> dict[str, Any]:
        return dict(s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(complete, range(4)))
    found = s3.get_object(**where)
    assert found["Body"].read() == b"".join(bodies)
    assert found["Metadata"] == {"a": "b"}
    digest = hashlib.md5(b"".join(hashlib.md5(body).digest() for body in bodies)).hexdigest()
    assert {answer["ETag"] for answer in answers} == {found["ETag"]} == {f'"{digest}-3"'}
    assert s3.get_object(**where, Range="bytes=6291454-6291457")["Body"].read() == b"\1\1\2\2"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    s3.delete_object(**where)
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **where, UploadId="another")


# IAM


def test_roles_keep_their_policies_as_json(cloud: EmbeddedCloud) -> None:
    iam, cloudformation = cloud.client("iam"), cloud.client("cloudformation")

    def template(action: str) -> dict[str, Any]:
        statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
        document = {"Version": "2012-10-17", "Statement": [statement]}
        role = resource(
            "AWS::IAM::Role",
            AssumeRolePolicyDocument={"Version": "2012-10-17", "Statement": []},
            Policies=[{"PolicyName": "p", "PolicyDocument": document}],
        )
        return {"Resources": {"Role": role}, "Outputs": {"Name": {"Value": {"Ref": "Role"}}}}

    def allowed() -> str:
        document = iam.get_role_policy(RoleName=stack["Outputs"]["Name"], PolicyName="p")["PolicyDocument"]
        return str(document["Statement"][0]["Action"])

    stack = create_stack(cloud, template("s3:GetObject"))
    assert allowed() == "s3:GetObject"
    cloudformation.update_stack(
        StackName=stack["StackName"],
        TemplateBody=json.dumps(template("s3:PutObject")),
        Capabilities=["CAPABILITY_IAM"],
    )
    wait_until(lambda: allowed() == "s3:PutObject")


def test_refuse_more_memory_than_the_account_may_have(cloud: EmbeddedCloud) -> None:
    client = cloud.client("lambda")
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="less than or equal to 10240"):
        make_function(cloud, MemorySize=10_241)
    make_function(cloud, MemorySize=10_240)


def test_permissions_have_a_physical_id(cloud: EmbeddedCloud) -> None:
    permission = resource(
        "AWS::Lambda::Permission",
        FunctionName=make_function(cloud),
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
    )
    stack = create_stack(cloud, {"Resources": {"MayCall": permission}})
    name = {"StackName": stack["StackName"]}
    (told,) = cloud.client("cloudformation").describe_stack_resources(**name)["StackResources"]
    assert told["PhysicalResourceId"].startswith(f"{stack['StackName']}-MayCall-")
