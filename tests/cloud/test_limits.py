"""One test for each row of the table of limits in workflows/embedded_cloud/README.md."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.helpers import (
    ROLE,
    RUNTIME,
    archive,
    finish,
    invoke,
    make_function,
    make_machine,
    make_queue,
    one_state,
    run,
    start,
    task,
    unique,
)
from workflows.embedded_cloud import EmbeddedCloud, server

PASS = {"Type": "Pass", "End": True}
KIB, MIB = 1 << 10, 1 << 20


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as refused:
        call()
    return str(refused.value.response["Error"]["Code"])


def text(length: int) -> dict[str, Any]:
    return {"a": {"DataType": "String", "StringValue": "x" * length}}


class TestSqs:
    def test_message_bytes(self, cloud: EmbeddedCloud) -> None:
        sqs, url = cloud.client("sqs"), make_queue(cloud)
        sqs.send_message(QueueUrl=url, MessageBody="b", MessageAttributes=text(MIB - 1 - len("aString")))
        too_long = text(MIB - len("aString"))
        assert (
            code_of(lambda: sqs.send_message(QueueUrl=url, MessageBody="b", MessageAttributes=too_long))
            == "InvalidParameterValue"
        )

    def test_batch_bytes(self, cloud: EmbeddedCloud) -> None:
        sqs, url = cloud.client("sqs"), make_queue(cloud)
        entries = [{"Id": str(i), "MessageBody": "b" * (MIB // 2 + i)} for i in range(2)]
        assert code_of(lambda: sqs.send_message_batch(QueueUrl=url, Entries=entries)) == (
            "AWS.SimpleQueueService.BatchRequestTooLong"
        )

    def test_batch_entries(self, cloud: EmbeddedCloud) -> None:
        sqs, url = cloud.client("sqs"), make_queue(cloud)
        entries = [{"Id": str(i), "MessageBody": "b"} for i in range(11)]
        assert code_of(lambda: sqs.send_message_batch(QueueUrl=url, Entries=entries)) == (
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"
        )

    def test_refuse_deletions_of_too_many(self, cloud: EmbeddedCloud) -> None:
        sqs, url = cloud.client("sqs"), make_queue(cloud)
        receipts = [{"Id": str(i), "ReceiptHandle": "r"} for i in range(11)]
        assert code_of(lambda: sqs.delete_message_batch(QueueUrl=url, Entries=receipts)) == (
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"
        )

    def test_empty_batch(self, cloud: EmbeddedCloud) -> None:
        sqs, url = cloud.client("sqs"), make_queue(cloud)
        assert code_of(lambda: sqs.send_message_batch(QueueUrl=url, Entries=[])) == (
            "AWS.SimpleQueueService.EmptyBatchRequest"
        )

    def test_batch_ids(self, cloud: EmbeddedCloud) -> None:
        sqs, url = cloud.client("sqs"), make_queue(cloud)
        entries = [{"Id": "same", "MessageBody": "b"}] * 2
        assert code_of(lambda: sqs.send_message_batch(QueueUrl=url, Entries=entries)) == (
            "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"
        )

    @pytest.mark.parametrize("body", ["\x00", "\x1f", "\ufffe", "ok\x0bnot"])
    def test_refuse_messages_that_sqs_refuses(self, cloud: EmbeddedCloud, body: str) -> None:
        sqs, url = cloud.client("sqs"), make_queue(cloud)
        assert code_of(lambda: sqs.send_message(QueueUrl=url, MessageBody=body)) == "InvalidMessageContents"
        entries = [{"Id": "0", "MessageBody": "fine"}, {"Id": "1", "MessageBody": body}]
        assert code_of(lambda: sqs.send_message_batch(QueueUrl=url, Entries=entries)) == (
            "InvalidMessageContents"
        )

    def test_characters_that_are_allowed(self, cloud: EmbeddedCloud) -> None:
        sqs, url = cloud.client("sqs"), make_queue(cloud)
        body = "\t\n\r \ud7ff\ue000\ufffd\U00010000"
        sqs.send_message(QueueUrl=url, MessageBody=body)
        assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == body

    def test_empty_body(self, cloud: EmbeddedCloud) -> None:
        sqs, url = cloud.client("sqs"), make_queue(cloud)
        assert code_of(lambda: sqs.send_message(QueueUrl=url, MessageBody="")) == "MissingParameter"

    def test_attributes(self, cloud: EmbeddedCloud) -> None:
        sqs, url = cloud.client("sqs"), make_queue(cloud)
        many = {f"a{i}": {"DataType": "String", "StringValue": "x"} for i in range(11)}
        assert (
            code_of(lambda: sqs.send_message(QueueUrl=url, MessageBody="b", MessageAttributes=many))
            == "InvalidParameterValue"
        )

    @pytest.mark.parametrize(
        "options",
        [
            {"MaxNumberOfMessages": 11},
            {"WaitTimeSeconds": 21},
            {"MaxNumberOfMessages": 0},
            {"VisibilityTimeout": 43_201},
        ],
    )
    def test_refuse_long_visibility(self, cloud: EmbeddedCloud, options: dict[str, int]) -> None:
        sqs, url = cloud.client("sqs"), make_queue(cloud)
        assert code_of(lambda: sqs.receive_message(QueueUrl=url, **options)) == "InvalidParameterValue"

    def test_names_of_deleted_queues_stay_taken(self, cloud: EmbeddedCloud) -> None:
        sqs, name = cloud.client("sqs"), unique("again")
        sqs.delete_queue(QueueUrl=sqs.create_queue(QueueName=name)["QueueUrl"])
        assert (
            code_of(lambda: sqs.create_queue(QueueName=name)) == "AWS.SimpleQueueService.QueueDeletedRecently"
        )

    def test_queue_names(self, cloud: EmbeddedCloud) -> None:
        sqs = cloud.client("sqs")
        for name in ("q" * 81, "a.b", "a b"):
            assert code_of(lambda name=name: sqs.create_queue(QueueName=name)) == "InvalidParameterValue"


class TestSns:
    def topic(self, cloud: EmbeddedCloud) -> str:
        return str(cloud.client("sns").create_topic(Name=unique("limits"))["TopicArn"])

    def test_message_bytes(self, cloud: EmbeddedCloud) -> None:
        sns, arn = cloud.client("sns"), self.topic(cloud)
        sns.publish(TopicArn=arn, Message="m", MessageAttributes=text(256 * KIB - 1 - len("aString")))
        too_long = text(256 * KIB - len("aString"))
        assert code_of(lambda: sns.publish(TopicArn=arn, Message="m", MessageAttributes=too_long)) == (
            "InvalidParameter"
        )

    def test_batch_bytes(self, cloud: EmbeddedCloud) -> None:
        sns, arn = cloud.client("sns"), self.topic(cloud)
        entries = [{"Id": str(i), "Message": "b" * (128 * KIB + i)} for i in range(2)]
        assert code_of(lambda: sns.publish_batch(TopicArn=arn, PublishBatchRequestEntries=entries)) == (
            "BatchRequestTooLong"
        )

    def test_batch_entries(self, cloud: EmbeddedCloud) -> None:
        sns, arn = cloud.client("sns"), self.topic(cloud)
        entries = [{"Id": str(i), "Message": "b"} for i in range(11)]
        assert code_of(lambda: sns.publish_batch(TopicArn=arn, PublishBatchRequestEntries=entries)) == (
            "TooManyEntriesInBatchRequest"
        )

    def test_batch_ids(self, cloud: EmbeddedCloud) -> None:
        sns, arn = cloud.client("sns"), self.topic(cloud)
        entries = [{"Id": "same", "Message": "b"}] * 2
        assert code_of(lambda: sns.publish_batch(TopicArn=arn, PublishBatchRequestEntries=entries)) == (
            "BatchEntryIdsNotDistinct"
        )

    def test_refuse_empty_publishes(self, cloud: EmbeddedCloud) -> None:
        sns, arn = cloud.client("sns"), self.topic(cloud)
        assert code_of(lambda: sns.publish(TopicArn=arn, Message="")) == "InvalidParameter"

    def test_limit_filter_policies(self, cloud: EmbeddedCloud) -> None:
        sns, arn = cloud.client("sns"), self.topic(cloud)

        def subscribe(number: int) -> None:
            sns.subscribe(
                TopicArn=arn,
                Protocol="sqs",
                Endpoint=f"arn:aws:sqs:us-east-1:123456789012:limits-{number}",
                Attributes={"FilterPolicy": json.dumps({"slot": [str(number)]})},
            )

        for number in range(200):
            subscribe(number)
        assert code_of(lambda: subscribe(200)) == "FilterPolicyLimitExceeded"

    @pytest.mark.parametrize(
        "policy",
        [
            "no json",
            json.dumps({f"k{i}": ["v"] for i in range(6)}),
            json.dumps({"a": [str(i) for i in range(20)], "b": [str(i) for i in range(8)]}),
            json.dumps({"a": "v"}),
            json.dumps({"a": [{"unknown": 1}]}),
        ],
    )
    def test_filter_policies(self, cloud: EmbeddedCloud, policy: str) -> None:
        sns, arn = cloud.client("sns"), self.topic(cloud)
        assert (
            code_of(
                lambda: sns.subscribe(
                    TopicArn=arn,
                    Protocol="sqs",
                    Endpoint="arn:aws:sqs:us-east-1:123456789012:q",
                    Attributes={"FilterPolicy": policy},
                )
            )
            == "InvalidParameter"
        )

    def test_limit_maximum_message_size(self, cloud: EmbeddedCloud) -> None:
        sns = cloud.client("sns")
        arn = sns.create_topic(Name=unique("big"), Attributes={"MaximumMessageSize": str(MIB)})["TopicArn"]
        sns.publish(TopicArn=arn, Message="m" * MIB)
        assert code_of(lambda: sns.publish(TopicArn=arn, Message="m" * (MIB + 1))) == "InvalidParameter"
        assert (
            code_of(
                lambda: sns.set_topic_attributes(
                    TopicArn=arn, AttributeName="MaximumMessageSize", AttributeValue=str(MIB + 1)
                )
            )
            == "InvalidParameter"
        )


ANSWER = "def handler(event, context):\n    return 'x' * event['length']\n"


class TestLambda:
    def test_payload_of_a_call(self, cloud: EmbeddedCloud) -> None:
        client, name = cloud.client("lambda"), make_function(cloud)
        payload = json.dumps({"x": "y" * 6 * MIB}).encode()
        assert (
            code_of(lambda: client.invoke(FunctionName=name, Payload=payload)) == "RequestTooLargeException"
        )

    def test_payload_of_an_event(self, cloud: EmbeddedCloud) -> None:
        client, name = cloud.client("lambda"), make_function(cloud)
        fits = json.dumps({"x": "y" * (MIB - 100)}).encode()
        client.invoke(FunctionName=name, InvocationType="Event", Payload=fits)
        payload = json.dumps({"x": "y" * MIB}).encode()
        assert (
            code_of(lambda: client.invoke(FunctionName=name, InvocationType="Event", Payload=payload))
            == "RequestTooLargeException"
        )

    def test_answer(self, cloud: EmbeddedCloud) -> None:
        name = make_function(cloud, ANSWER)
        answer, _ = invoke(cloud, name, {"length": 6 * MIB - 2})
        assert len(answer) == 6 * MIB - 2
        answer, whole = invoke(cloud, name, {"length": 6 * MIB + 200})
        assert whole["FunctionError"] == "Unhandled"
        assert answer["errorType"] == "Function.ResponseSizeTooLarge"

    @pytest.mark.parametrize(
        "settings",
        [
            {"Timeout": 901},
            {"Timeout": 0},
            {"MemorySize": 127},
            {"MemorySize": 10_241},
            {"EphemeralStorage": {"Size": 511}},
            {"EphemeralStorage": {"Size": 10_241}},
        ],
    )
    def test_limit_functions(self, cloud: EmbeddedCloud, settings: dict[str, Any]) -> None:
        # boto3 refuses some of these itself.
        unchecked = cloud.client("lambda", parameter_validation=False)
        request = {"Role": ROLE, "Runtime": RUNTIME, "Handler": "app.handler", "Code": {"ZipFile": archive()}}
        assert code_of(
            lambda: unchecked.create_function(FunctionName=unique("f"), **request, **settings)
        ) in {"ValidationException", "InvalidParameterValueException"}

    def test_environment_bytes(self, cloud: EmbeddedCloud) -> None:
        assert code_of(lambda: make_function(cloud, Environment={"Variables": {"A": "x" * 4096}})) == (
            "InvalidParameterValueException"
        )

    def test_layers(self, cloud: EmbeddedCloud) -> None:
        client = cloud.client("lambda")
        layers = [
            client.publish_layer_version(LayerName=unique("layer"), Content={"ZipFile": archive()})[
                "LayerVersionArn"
            ]
            for _ in range(6)
        ]
        assert code_of(lambda: make_function(cloud, Layers=layers)) == "InvalidParameterValueException"

    def test_unzipped_bytes(self, cloud: EmbeddedCloud) -> None:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr("app.py", "def handler(event, context): pass\n")
            opened.writestr("zeros", bytes(250 * MIB + 1))
        assert (
            code_of(
                lambda: cloud.client("lambda").create_function(
                    FunctionName=unique("big"),
                    Role=ROLE,
                    Runtime=RUNTIME,
                    Handler="app.handler",
                    Code={"ZipFile": data.getvalue()},
                )
            )
            == "InvalidParameterValueException"
        )

    def test_temporary_storage(self, cloud: EmbeddedCloud) -> None:
        source = (
            "import os, tempfile\n"
            "def handler(event, context):\n"
            "    path = os.path.join(tempfile.gettempdir(), 'x')\n"
            "    with open(path, 'wb') as file:\n"
            "        for _ in range(event['mib']):\n"
            "            file.write(bytes(1 << 20))\n"
            "    return os.path.getsize(path)\n"
        )
        name = make_function(cloud, source)
        assert invoke(cloud, name, {"mib": 8})[0] == 8 * MIB
        answer, whole = invoke(cloud, name, {"mib": 513})
        assert whole["FunctionError"] == "Unhandled"
        assert answer["errorType"] == "OSError"


class TestStepFunctions:
    def test_input(self, cloud: EmbeddedCloud) -> None:
        client, machine = cloud.client("stepfunctions"), make_machine(cloud, one_state(PASS))
        event = json.dumps({"x": "y" * 256 * KIB})
        assert (
            code_of(lambda: client.start_execution(stateMachineArn=machine, input=event))
            == "ValidationException"
        )

    def test_what_a_state_answers(self, cloud: EmbeddedCloud) -> None:
        machine = make_machine(cloud, one_state(task(make_function(cloud, ANSWER))))
        assert run(cloud, machine, {"length": 200 * KIB})["status"] == "SUCCEEDED"
        found = run(cloud, machine, {"length": 257 * KIB})
        assert found["error"] == "States.DataLimitExceeded"

    def test_limit_histories(self, cloud: EmbeddedCloud) -> None:
        states = {
            "Again": {"Type": "Pass", "Next": "Once"},
            "Once": {"Type": "Pass", "Next": "Again"},
        }
        found = finish(cloud, start(cloud, make_machine(cloud, {"StartAt": "Again", "States": states})), 60)
        assert found["status"] == "FAILED"
        assert "25000" in found["cause"]

    def test_limit_inline_maps(self, cloud: EmbeddedCloud) -> None:
        processor = {
            "ProcessorConfig": {"Mode": "INLINE"},
            "StartAt": "Wait",
            "States": {"Wait": {"Type": "Wait", "Seconds": 1, "End": True}},
        }
        state = {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": processor, "End": True}
        execution = start(cloud, make_machine(cloud, one_state(state)), {"items": list(range(45))})
        finish(cloud, execution)
        client = cloud.client("stepfunctions")
        events = client.get_execution_history(executionArn=execution, maxResults=1000)["events"]
        running = most = 0
        for event in events:
            running += {"MapIterationStarted": 1, "MapIterationSucceeded": -1}.get(event["type"], 0)
            most = max(most, running)
        assert most == 40

    def test_limit_inputs_and_names(self, cloud: EmbeddedCloud) -> None:
        client, machine = cloud.client("stepfunctions"), make_machine(cloud, one_state(PASS))
        for name in ("n" * 81, "a b", "a/b"):
            assert code_of(
                lambda name=name: client.start_execution(stateMachineArn=machine, name=name, input="{}")
            ) in {"InvalidName", "ValidationException"}

    def test_limit_definitions(self, cloud: EmbeddedCloud) -> None:
        client = cloud.client("stepfunctions")
        definition = json.dumps(one_state({**PASS, "Comment": "x" * MIB}))
        assert code_of(
            lambda: client.create_state_machine(name=unique("m"), definition=definition, roleArn=ROLE)
        ) in {"ValidationException", "InvalidDefinition"}


MISSING = """
import boto3
from botocore.exceptions import ClientError

def code(call, **where):
    try:
        call(**where)
    except ClientError as error:
        return error.response["Error"]["Code"]

def handler(event, context):
    s3 = boto3.client("s3")
    where = {"Bucket": event["bucket"], "Key": "missing"}
    return [code(s3.get_object, **where), code(s3.head_object, **where)]
"""


class TestS3:
    def bucket(self, cloud: EmbeddedCloud) -> str:
        name = unique("limits")
        cloud.client("s3").create_bucket(Bucket=name)
        return name

    def test_limit_keys_and_metadata(self, cloud: EmbeddedCloud) -> None:
        s3, bucket = cloud.client("s3"), self.bucket(cloud)
        s3.put_object(Bucket=bucket, Key="k" * 1024, Body=b"")
        assert code_of(lambda: s3.put_object(Bucket=bucket, Key="é" * 513, Body=b"")) == "KeyTooLongError"

    def test_metadata_bytes(self, cloud: EmbeddedCloud) -> None:
        s3, bucket = cloud.client("s3"), self.bucket(cloud)
        assert (
            code_of(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"m": "x" * 2048}))
            == "MetadataTooLarge"
        )

    def test_limit_deletions(self, cloud: EmbeddedCloud) -> None:
        s3, bucket = cloud.client("s3"), self.bucket(cloud)
        objects = [{"Key": str(i)} for i in range(1001)]
        assert (
            code_of(lambda: s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})) == "MalformedXML"
        )

    def test_parts(self, cloud: EmbeddedCloud) -> None:
        s3, bucket = cloud.client("s3"), self.bucket(cloud)
        upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
        where = {"Bucket": bucket, "Key": "k", "UploadId": upload}
        parts = [
            {"PartNumber": number, "ETag": s3.upload_part(PartNumber=number, Body=b"small", **where)["ETag"]}
            for number in (1, 2)
        ]
        assert code_of(lambda: s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **where)) == (
            "EntityTooSmall"
        )
        assert code_of(lambda: s3.upload_part(PartNumber=10_001, Body=b"", **where)) == "InvalidArgument"

    def test_range(self, cloud: EmbeddedCloud) -> None:
        s3, bucket = cloud.client("s3"), self.bucket(cloud)
        s3.put_object(Bucket=bucket, Key="k", Body=b"abc")
        assert code_of(lambda: s3.get_object(Bucket=bucket, Key="k", Range="bytes=3-4")) == "InvalidRange"

    @pytest.mark.parametrize("may_list", [False, True])
    def test_hide_missing_keys(self, cloud: EmbeddedCloud, may_list: bool) -> None:
        iam, name = cloud.client("iam"), unique("reader")
        bucket = self.bucket(cloud)
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        statements = [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}]
        document = {"Version": "2012-10-17", "Statement": statements}
        iam.put_role_policy(RoleName=name, PolicyName="read", PolicyDocument=json.dumps(document))
        if may_list:
            grant = {"Effect": "Allow", "Action": "s3:List*", "Resource": f"arn:aws:s3:::{bucket}"}
            listing = json.dumps({"Version": "2012-10-17", "Statement": [grant]})
            policy = iam.create_policy(PolicyName=name, PolicyDocument=listing)["Policy"]["Arn"]
            iam.attach_role_policy(RoleName=name, PolicyArn=policy)
        function = make_function(cloud, MISSING, Role=role)
        found, _ = invoke(cloud, function, {"bucket": bucket})
        assert found == (["NoSuchKey", "404"] if may_list else ["AccessDenied", "403"])


def test_every_limit_in_the_docs_has_a_test() -> None:
    table = Path(server.__file__).with_name("README.md").read_text()
    named = set(re.findall(r"\btest_\w+\b", table)) - {"test_lambda_service", "test_limits"}
    here = set(re.findall(r"def (test_\w+)\(", Path(__file__).read_text()))
    assert named == here - {"test_every_limit_in_the_docs_has_a_test", "test_characters_that_are_allowed"}
