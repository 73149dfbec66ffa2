"""A deleted stack leaves nothing, or the data alone where that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamella.errors import CloudError
from tests.integration import batches
from tests.integration.runs import begin, outcome, wait_for_workers
from tests.integration.stacks import SLOT_GROUPS, left_of, stack_of
from workflows.cli.cloud import deploy_stack
from workflows.embedded_cloud import EmbeddedCloud, EmbeddedCloudError
from workflows.embedded_cloud.deploy import delete

WORKERS = 4


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return batches.write_npz(tmp_path_factory.mktemp("batch") / "blobs.npz", batches.blobs(400, 16))


def test_a_stack_that_is_deleted_while_it_runs_leaves_nothing(
    cloud: EmbeddedCloud, long_model: Path, batch: Path
) -> None:
    with stack_of(cloud, "doomed") as stack:
        run = begin(stack, long_model, batch, workers=WORKERS, strategy="rows")
        cloud.client("sqs").create_queue(QueueName="doomed-run-0123456789abcdef-1-0")
        cloud.client("s3").create_multipart_upload(Bucket=stack.bucket, Key="models/half")
        wait_for_workers(run, WORKERS)
        delete(cloud.endpoint_url, "doomed")

        assert left_of(cloud, "doomed") == set()


def test_data_that_is_to_be_kept_is_all_that_a_deletion_leaves(
    cloud: EmbeddedCloud, small_model: Path, batch: Path
) -> None:
    with stack_of(cloud, "kept", KeepData="true") as stack:
        run = begin(stack, small_model, batch, workers=2)
        assert outcome(run)["status"] == "SUCCEEDED"
        before = stack.files().sizes()
        delete(cloud.endpoint_url, "kept")

        assert left_of(cloud, "kept") == {stack.bucket}
        assert stack.files().sizes() == before
        assert f"runs/{run.run_id}/predictions.csv" in before
        assert "aws:SecureTransport" in cloud.client("s3").get_bucket_policy(Bucket=stack.bucket)["Policy"]


def test_keeping_the_data_can_be_decided_later(cloud: EmbeddedCloud) -> None:
    with stack_of(cloud, "later"), stack_of(cloud, "later", KeepData="true") as stack:
        stack.files().write("models/mine/weights", b"1")
        delete(cloud.endpoint_url, "later")

        assert stack.files().read("models/mine/weights") == b"1"


def test_a_stack_that_cannot_be_created_leaves_nothing(cloud: EmbeddedCloud) -> None:
    logs, taken = cloud.client("logs"), "/aws/vendedlogs/states/broken-inference"
    logs.create_log_group(logGroupName=taken)
    parameters = {"SlotGroups": SLOT_GROUPS, "KeepData": "true"}
    with pytest.raises(CloudError, match="StateMachineLogGroup"):
        deploy_stack(cloud, "broken", parameters)
    logs.delete_log_group(logGroupName=taken)

    assert left_of(cloud, "broken") == set()


def test_a_deletion_that_fails_says_why_and_can_be_done_again(cloud: EmbeddedCloud) -> None:
    with stack_of(cloud, "stuck") as stack:
        stack.files().write("models/mine/weights", b"1")
        functions = cloud.client("lambda")
        names = [function["FunctionName"] for function in functions.list_functions()["Functions"]]
        (name,) = [name for name in names if name.startswith("stuck-Cleanup")]
        environment = functions.get_function_configuration(FunctionName=name)["Environment"]
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": {}})
        with pytest.raises(EmbeddedCloudError, match=r"Cleanup.*LAMELLA_BUCKET of this function is not set"):
            delete(cloud.endpoint_url, "stuck")
        (described,) = cloud.client("cloudformation").describe_stacks(StackName="stuck")["Stacks"]
        assert described["StackStatus"] == "DELETE_FAILED"
        assert stack.files().exists("models/mine/weights")

        functions.update_function_configuration(FunctionName=name, Environment=environment)
        delete(cloud.endpoint_url, "stuck")
        assert left_of(cloud, "stuck") == set()
