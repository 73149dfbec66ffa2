"""What templates say of ordinary resources: that it takes effect, changes in place, and goes again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.helpers import (
    RUNTIME,
    create_stack,
    delete_stack,
    one_state,
    queue_arn,
    receive,
    resource,
    unique,
    update_stack,
    wait_until,
)
from workflows.embedded_cloud import EmbeddedCloud

ACCOUNT = "123456789012"
TAGS = [{"Key": "team", "Value": "a"}]
OTHER_TAGS = [{"Key": "owner", "Value": "b"}]
DOCUMENT: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}],
}
TRUST = {"Version": "2012-10-17", "Statement": []}


def stack_of(cloud: EmbeddedCloud, **resources: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Create a stack; return its id and what Ref gives of each of its resources."""
    outputs = {name: {"Value": {"Ref": name}} for name in resources}
    stack = create_stack(cloud, {"Resources": resources, "Outputs": outputs})
    assert stack["StackStatus"] == "CREATE_COMPLETE", stack.get("StackStatusReason")
    return stack["StackId"], stack["Outputs"]


def change_to(cloud: EmbeddedCloud, stack: str, **resources: dict[str, Any]) -> None:
    found = update_stack(cloud, stack, {"Resources": resources})
    assert found["StackStatus"] == "UPDATE_COMPLETE", found.get("StackStatusReason")


def tags(listed: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in listed if not tag["Key"].startswith("aws:")}


def test_buckets_are_what_templates_say(cloud: EmbeddedCloud) -> None:
    s3 = cloud.client("s3")
    rules = [
        {
            "Id": "runs",
            "Status": "Enabled",
            "Prefix": "runs/",
            "ExpirationInDays": 30,
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 7},
            "Transitions": [{"StorageClass": "STANDARD_IA", "TransitionInDays": 10}],
        },
        {"Status": "Disabled", "TagFilters": TAGS, "ExpirationInDays": "1"},
    ]
    block = {"BlockPublicAcls": True, "BlockPublicPolicy": "true", "IgnorePublicAcls": True}
    cors = {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"], "MaxAge": 60}
    full = resource(
        "AWS::S3::Bucket",
        CorsConfiguration={"CorsRules": [cors]},
        LifecycleConfiguration={"Rules": rules},
        OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        PublicAccessBlockConfiguration=block,
        VersioningConfiguration={"Status": "Enabled"},
        Tags=TAGS,
    )
    stack, names = stack_of(cloud, B=full)
    name = names["B"]
    first, second = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert (first["ID"], first["Filter"], first["Expiration"]) == ("runs", {"Prefix": "runs/"}, {"Days": 30})
    assert first["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert first["NoncurrentVersionExpiration"] == {"NoncurrentDays": 7}
    assert first["Transitions"] == [{"StorageClass": "STANDARD_IA", "Days": 10}]
    assert (second["Status"], second["Filter"]) == ("Disabled", {"Tag": TAGS[0]})
    (owned,) = s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"]
    assert owned == {"ObjectOwnership": "BucketOwnerEnforced"}
    blocked = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    assert blocked == {
        "BlockPublicAcls": True,
        "BlockPublicPolicy": True,
        "IgnorePublicAcls": True,
        "RestrictPublicBuckets": False,
    }
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    (shared,) = s3.get_bucket_cors(Bucket=name)["CORSRules"]
    assert (shared["AllowedMethods"], shared["MaxAgeSeconds"]) == (["GET"], 60)
    assert tags(s3.get_bucket_tagging(Bucket=name)["TagSet"]) == {"team": "a"}
    s3.put_object(Bucket=name, Key="stays", Body=b"1")

    change_to(cloud, stack, B=resource("AWS::S3::Bucket", Tags=OTHER_TAGS))
    assert tags(s3.get_bucket_tagging(Bucket=name)["TagSet"]) == {"owner": "b"}
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Suspended"
    assert s3.get_object(Bucket=name, Key="stays")["Body"].read() == b"1"
    for read in (
        s3.get_bucket_lifecycle_configuration,
        s3.get_bucket_ownership_controls,
        s3.get_public_access_block,
        s3.get_bucket_cors,
    ):
        with pytest.raises(ClientError, match=r"(?i)not ?(exist|found)|NoSuch"):
            read(Bucket=name)


def test_cloudwatch_alarm(cloud: EmbeddedCloud) -> None:
    client = cloud.client("cloudwatch")

    def alarm(threshold: str, **more: Any) -> dict[str, Any]:
        metric = {"Namespace": "N", "MetricName": "M", "Dimensions": [{"Name": "d", "Value": "v"}]}
        metrics = [
            {"Id": "e", "Expression": "m / 2", "Label": "half"},
            {
                "Id": "m",
                "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"},
                "ReturnData": False,
            },
        ]
        return resource(
            "AWS::CloudWatch::Alarm",
            AlarmActions=[{"Ref": "T"}],
            ComparisonOperator="GreaterThanThreshold",
            EvaluationPeriods="1",
            Metrics=metrics,
            Threshold=threshold,
            **more,
        )

    topic = resource("AWS::SNS::Topic")
    stack, names = stack_of(cloud, T=topic, A=alarm("1.5", Tags=TAGS))

    def found() -> Any:
        (alarm,) = client.describe_alarms(AlarmNames=[names["A"]])["MetricAlarms"]
        return alarm

    made = found()
    assert made["AlarmActions"] == [names["T"]]
    assert made["Threshold"] == 1.5
    assert {each["Id"]: each.get("Expression") for each in made["Metrics"]} == {"e": "m / 2", "m": None}
    stat = next(each for each in made["Metrics"] if each["Id"] == "m")["MetricStat"]
    assert (stat["Metric"]["MetricName"], stat["Period"], stat["Stat"]) == ("M", 60, "Sum")
    assert tags(client.list_tags_for_resource(ResourceARN=made["AlarmArn"])["Tags"]) == {"team": "a"}
    client.set_alarm_state(AlarmName=names["A"], StateValue="ALARM", StateReason="test")

    change_to(cloud, stack, T=topic, A=alarm("9", TreatMissingData="notBreaching"))
    assert (found()["Threshold"], found()["TreatMissingData"]) == (9.0, "notBreaching")
    assert found()["StateValue"] == "ALARM"
    assert tags(client.list_tags_for_resource(ResourceARN=made["AlarmArn"])["Tags"]) == {}
    change_to(cloud, stack, T=topic)
    assert client.describe_alarms(AlarmNames=[names["A"]])["MetricAlarms"] == []

    neither = resource(
        "AWS::CloudWatch::Alarm", ComparisonOperator="GreaterThanThreshold", EvaluationPeriods=1
    )
    failed = create_stack(cloud, {"Resources": {"A": neither}})
    assert "needs either Metrics or MetricName" in failed["StackStatusReason"]


def test_dashboards_keep_their_name(cloud: EmbeddedCloud) -> None:
    client = cloud.client("cloudwatch")

    def board(text: str, **more: str) -> dict[str, Any]:
        return resource("AWS::CloudWatch::Dashboard", DashboardBody=json.dumps({"widgets": [text]}), **more)

    given = unique("board")
    stack, names = stack_of(cloud, D=board("a"), Named=board("b", DashboardName=given))
    assert names["Named"] == given
    assert names["D"].startswith("s-")
    change_to(cloud, stack, D=board("c"), Named=board("b", DashboardName=given))
    assert json.loads(client.get_dashboard(DashboardName=names["D"])["DashboardBody"]) == {"widgets": ["c"]}
    delete_stack(cloud, stack)
    left = [each["DashboardName"] for each in client.list_dashboards()["DashboardEntries"]]
    assert not {given, names["D"]} & set(left)


def test_topics_change_in_their_place(cloud: EmbeddedCloud) -> None:
    sns = cloud.client("sns")

    def topic(*emails: str, **more: Any) -> dict[str, Any]:
        subscription = [{"Protocol": "email", "Endpoint": email} for email in emails]
        return resource("AWS::SNS::Topic", Subscription=subscription, **more)

    apart = resource(
        "AWS::SNS::Subscription", TopicArn={"Ref": "T"}, Protocol="email", Endpoint="apart@example.com"
    )
    statement = {"Effect": "Deny", "Principal": "*", "Action": "sns:Publish", "Resource": {"Ref": "T"}}
    policy = resource(
        "AWS::SNS::TopicPolicy",
        Topics=[{"Ref": "T"}],
        PolicyDocument={"Version": "2012-10-17", "Statement": [statement]},
    )
    first = topic("one@example.com", "two@example.com", DisplayName="D", Tags=TAGS)
    stack, names = stack_of(cloud, T=first, S=apart, P=policy)
    arn = names["T"]

    def subscribers() -> set[str]:
        found = sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
        return {each["Endpoint"].split("@")[0] for each in found if each["Protocol"] == "email"}

    def attributes() -> dict[str, str]:
        found: dict[str, str] = sns.get_topic_attributes(TopicArn=arn)["Attributes"]
        return found

    assert subscribers() == {"one", "two", "apart"}
    assert sns.publish(TopicArn=arn, Message="to all")["MessageId"]
    assert (attributes()["DisplayName"], "Deny" in attributes()["Policy"]) == ("D", True)
    assert tags(sns.list_tags_for_resource(ResourceArn=arn)["Tags"]) == {"team": "a"}

    change_to(cloud, stack, T=topic("two@example.com", "three@example.com", Tags=OTHER_TAGS), S=apart)
    assert subscribers() == {"two", "three", "apart"}
    assert (attributes()["DisplayName"], "Deny" in attributes()["Policy"]) == ("", False)
    assert tags(sns.list_tags_for_resource(ResourceArn=arn)["Tags"]) == {"owner": "b"}
    delete_stack(cloud, stack)
    assert arn not in [each["TopicArn"] for each in sns.list_topics()["Topics"]]


def test_queues_change_in_their_place(cloud: EmbeddedCloud) -> None:
    sqs = cloud.client("sqs")

    def queue(**properties: Any) -> dict[str, Any]:
        return resource("AWS::SQS::Queue", **properties)

    dead = queue()
    redrive = {"deadLetterTargetArn": {"Fn::GetAtt": ["Dead", "Arn"]}, "maxReceiveCount": 3}
    document = {**DOCUMENT, "Statement": [{**DOCUMENT["Statement"][0], "Principal": "*"}]}
    policy = resource("AWS::SQS::QueuePolicy", Queues=[{"Ref": "Q"}], PolicyDocument=document)
    stack, names = stack_of(
        cloud, Dead=dead, Policy=policy, Q=queue(MessageRetentionPeriod=60, DelaySeconds=3, Tags=TAGS)
    )

    def attributes() -> dict[str, str]:
        found: dict[str, str] = sqs.get_queue_attributes(QueueUrl=names["Q"], AttributeNames=["All"])[
            "Attributes"
        ]
        return found

    changed = queue(MessageRetentionPeriod=120, RedrivePolicy=redrive, Tags=OTHER_TAGS)
    change_to(cloud, stack, Dead=dead, Policy=policy, Q=changed)
    found = attributes()
    assert (found["MessageRetentionPeriod"], found["DelaySeconds"]) == ("120", "0")
    assert json.loads(found["RedrivePolicy"])["maxReceiveCount"] == 3
    assert "Statement" in found["Policy"]
    assert tags(
        [{"Key": k, "Value": v} for k, v in sqs.list_queue_tags(QueueUrl=names["Q"])["Tags"].items()]
    ) == {"owner": "b"}
    change_to(cloud, stack, Dead=dead, Q=queue())
    assert attributes()["MessageRetentionPeriod"] == "345600"
    assert not {"RedrivePolicy", "Policy"} & set(attributes())


def test_rules_change_in_their_place(cloud: EmbeddedCloud) -> None:
    events, source = cloud.client("events"), unique("source")

    def rule(word: str, *queues: str, **more: Any) -> dict[str, Any]:
        targets = [{"Id": name, "Arn": {"Fn::GetAtt": [name, "Arn"]}} for name in queues]
        pattern = {"source": [source], "detail": {"word": [word]}}
        return resource("AWS::Events::Rule", EventPattern=pattern, Targets=targets, **more)

    queues = {name: resource("AWS::SQS::Queue") for name in ("A", "B", "Own")}
    stack, names = stack_of(cloud, R=rule("first", "A", Tags=TAGS), **queues)
    name = names["R"].rpartition("|")[2]
    events.put_targets(Rule=name, Targets=[{"Id": "own", "Arn": queue_arn(names["Own"])}])
    change_to(cloud, stack, R=rule("second", "B", Description="changed", Tags=OTHER_TAGS), **queues)
    found = events.describe_rule(Name=name)
    assert (found["Description"], found["State"]) == ("changed", "ENABLED")
    assert tags(events.list_tags_for_resource(ResourceARN=found["Arn"])["Tags"]) == {"owner": "b"}
    for word in ("first", "second"):
        entry = {"Source": source, "DetailType": "T", "Detail": json.dumps({"word": word})}
        events.put_events(Entries=[entry])
    for queue in ("B", "Own"):
        (message,) = wait_until(lambda queue=queue: receive(cloud, names[queue]))
        assert json.loads(message["Body"])["detail"] == {"word": "second"}
    assert receive(cloud, names["A"], WaitTimeSeconds=0) == []
    change_to(cloud, stack, R=rule("second", "B", State="DISABLED"), **queues)
    assert events.describe_rule(Name=name)["State"] == "DISABLED"
    delete_stack(cloud, stack)
    with pytest.raises(ClientError, match="does not exist"):
        events.describe_rule(Name=name)


def test_roles_have_managed_policies(cloud: EmbeddedCloud) -> None:
    iam = cloud.client("iam")
    basic = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    policy = resource("AWS::IAM::ManagedPolicy", PolicyDocument=DOCUMENT)

    def role(*arns: Any, **more: Any) -> dict[str, Any]:
        return resource(
            "AWS::IAM::Role", AssumeRolePolicyDocument=TRUST, ManagedPolicyArns=list(arns), **more
        )

    stack, names = stack_of(cloud, R=role(basic, {"Ref": "P"}, Description="a", Tags=TAGS), P=policy)

    def attached() -> set[str]:
        found = iam.list_attached_role_policies(RoleName=names["R"])["AttachedPolicies"]
        return {each["PolicyArn"] for each in found}

    assert attached() == {basic, names["P"]}
    change_to(cloud, stack, R=role(basic, Description="b", Tags=OTHER_TAGS), P=policy)
    assert attached() == {basic}
    found = iam.get_role(RoleName=names["R"])["Role"]
    assert (found["Description"], tags(found["Tags"])) == ("b", {"owner": "b"})
    assert delete_stack(cloud, stack)["StackStatus"] == "DELETE_COMPLETE"
    for read in (lambda: iam.get_role(RoleName=names["R"]), lambda: iam.get_policy(PolicyArn=names["P"])):
        with pytest.raises(iam.exceptions.NoSuchEntityException):
            read()


def test_managed_policies_change_and_go(cloud: EmbeddedCloud) -> None:
    iam = cloud.client("iam")
    roles = {name: resource("AWS::IAM::Role", AssumeRolePolicyDocument=TRUST) for name in ("A", "B")}

    def policy(action: str, role: str) -> dict[str, Any]:
        statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
        document = {"Version": "2012-10-17", "Statement": [statement]}
        return resource("AWS::IAM::ManagedPolicy", PolicyDocument=document, Roles=[{"Ref": role}])

    stack, names = stack_of(cloud, P=policy("s3:GetObject", "A"), **roles)
    for number in range(6):
        change_to(cloud, stack, P=policy(f"s3:Get{number}", "B"), **roles)
    version = iam.get_policy(PolicyArn=names["P"])["Policy"]["DefaultVersionId"]
    found = iam.get_policy_version(PolicyArn=names["P"], VersionId=version)["PolicyVersion"]
    assert found["Document"]["Statement"][0]["Action"] == "s3:Get5"
    holders = iam.list_entities_for_policy(PolicyArn=names["P"])["PolicyRoles"]
    assert [each["RoleName"] for each in holders] == [names["B"]]
    iam.create_role(RoleName=unique("foreign"), AssumeRolePolicyDocument="{}")
    foreign = unique("foreign")
    iam.create_role(RoleName=foreign, AssumeRolePolicyDocument="{}")
    iam.attach_role_policy(RoleName=foreign, PolicyArn=names["P"])
    failed = delete_stack(cloud, stack)
    assert failed["StackStatus"] == "DELETE_FAILED"
    assert "attached to entities" in failed["StackStatusReason"]
    iam.detach_role_policy(RoleName=foreign, PolicyArn=names["P"])
    assert delete_stack(cloud, stack)["StackStatus"] == "DELETE_COMPLETE"


def test_inline_policies_change_and_go(cloud: EmbeddedCloud) -> None:
    iam = cloud.client("iam")
    role = resource("AWS::IAM::Role", AssumeRolePolicyDocument=TRUST)

    def policy(action: str) -> dict[str, Any]:
        statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
        document = {"Version": "2012-10-17", "Statement": [statement]}
        return resource("AWS::IAM::Policy", PolicyName="p", PolicyDocument=document, Roles=[{"Ref": "R"}])

    stack, names = stack_of(cloud, R=role, P=policy("s3:GetObject"))
    change_to(cloud, stack, R=role, P=policy("s3:PutObject"))
    found = iam.get_role_policy(RoleName=names["R"], PolicyName="p")["PolicyDocument"]
    assert found["Statement"][0]["Action"] == "s3:PutObject"
    change_to(cloud, stack, R=role)
    assert iam.list_role_policies(RoleName=names["R"])["PolicyNames"] == []


def function(**properties: Any) -> dict[str, Any]:
    code = {"ZipFile": "def handler(event, context):\n    return 1\n"}
    role = f"arn:aws:iam::{ACCOUNT}:role/any"
    settings = {"Runtime": RUNTIME, "Handler": "index.handler", "Role": role, "Code": code}
    return resource("AWS::Lambda::Function", **settings, **properties)


def test_keep_vpc_config(cloud: EmbeddedCloud) -> None:
    client = cloud.client("lambda")
    network = resource("AWS::EC2::VPC", CidrBlock="10.0.0.0/16")
    subnet = resource("AWS::EC2::Subnet", VpcId={"Ref": "V"}, CidrBlock="10.0.1.0/24")
    group = resource("AWS::EC2::SecurityGroup", GroupDescription="g", VpcId={"Ref": "V"})
    parts = {"V": network, "S": subnet, "G": group}
    inside = {"SubnetIds": [{"Ref": "S"}], "SecurityGroupIds": [{"Fn::GetAtt": ["G", "GroupId"]}]}
    stack, names = stack_of(cloud, F=function(VpcConfig=inside, Timeout=9, Description="in"), **parts)

    def configuration() -> dict[str, Any]:
        found: dict[str, Any] = client.get_function_configuration(FunctionName=names["F"])
        return found

    found = configuration()["VpcConfig"]
    assert (found["SubnetIds"], found["VpcId"]) == ([names["S"]], names["V"])
    assert len(found["SecurityGroupIds"]) == 1
    assert json.loads(client.invoke(FunctionName=names["F"])["Payload"].read()) == 1
    change_to(cloud, stack, F=function(Tags=TAGS), **parts)
    found = configuration()
    assert found["VpcConfig"]["SubnetIds"] == []
    assert (found["Timeout"], found.get("Description", "")) == (3, "")
    assert client.list_tags(Resource=found["FunctionArn"])["Tags"].items() >= {"team": "a"}.items()


def test_how_often_an_invocation_is_tried_again_changes(cloud: EmbeddedCloud) -> None:
    client = cloud.client("lambda")

    def config(retries: int) -> dict[str, Any]:
        return resource(
            "AWS::Lambda::EventInvokeConfig",
            FunctionName={"Ref": "F"},
            Qualifier="$LATEST",
            MaximumRetryAttempts=retries,
        )

    stack, names = stack_of(cloud, F=function(), C=config(1))
    read: Callable[..., Any] = client.get_function_event_invoke_config
    assert read(FunctionName=names["F"])["MaximumRetryAttempts"] == 1
    change_to(cloud, stack, F=function(), C=config(0))
    assert read(FunctionName=names["F"])["MaximumRetryAttempts"] == 0
    change_to(cloud, stack, F=function())
    with pytest.raises(ClientError, match="ResourceNotFound"):
        read(FunctionName=names["F"])


def test_state_machines_tell_of_logging_and_tracing(cloud: EmbeddedCloud) -> None:
    client = cloud.client("stepfunctions")

    def machine(**more: Any) -> dict[str, Any]:
        definition = json.dumps(one_state({"Type": "Pass", "End": True}))
        role = f"arn:aws:iam::{ACCOUNT}:role/any"
        return resource("AWS::StepFunctions::StateMachine", DefinitionString=definition, RoleArn=role, **more)

    group = resource("AWS::Logs::LogGroup")
    destination = {"CloudWatchLogsLogGroup": {"LogGroupArn": {"Fn::GetAtt": ["L", "Arn"]}}}
    logging = {"Level": "ERROR", "IncludeExecutionData": False, "Destinations": [destination]}
    stack, names = stack_of(
        cloud, L=group, M=machine(LoggingConfiguration=logging, TracingConfiguration={"Enabled": True})
    )
    found = client.describe_state_machine(stateMachineArn=names["M"])
    assert found["loggingConfiguration"]["level"] == "ERROR"
    (logged,) = found["loggingConfiguration"]["destinations"]
    assert names["L"] in logged["cloudWatchLogsLogGroup"]["logGroupArn"]
    assert found["tracingConfiguration"] == {"enabled": True}
    change_to(cloud, stack, L=group, M=machine())
    found = client.describe_state_machine(stateMachineArn=names["M"])
    assert (found["loggingConfiguration"]["level"], found["tracingConfiguration"]) == (
        "OFF",
        {"enabled": False},
    )
