"""Every change that the embedded cloud makes to moto, one function each, with its reason.

They reach into moto's internals, so moto's version is pinned exactly. tests/cloud has a test for each
that fails without it.
"""

from __future__ import annotations

from collections.abc import Callable

from workflows.embedded_cloud.patches import (
    bucket_events,
    cloudformation_buckets,
    cloudformation_messaging,
    cloudformation_monitoring,
    cloudformation_parsing,
    cloudformation_resources,
    cloudformation_stacks,
    cloudformation_templates,
    custom_resources,
    distributed_map,
    events,
    iam,
    lambda_backend,
    limits_lambda,
    limits_messaging,
    limits_stepfunctions,
    limits_storage,
    requests,
    s3,
    schedule_resources,
    schedules,
    sns,
    sns_email,
    sqs,
    stepfunctions_engine,
    stepfunctions_stop,
)
from workflows.embedded_cloud.patches.context import CloudContext

PATCHES: tuple[Callable[[CloudContext], None], ...] = (
    *requests.PATCHES,
    *stepfunctions_engine.PATCHES,
    *distributed_map.PATCHES,
    *stepfunctions_stop.PATCHES,
    *cloudformation_parsing.PATCHES,
    *cloudformation_stacks.PATCHES,
    *cloudformation_resources.PATCHES,
    *cloudformation_buckets.PATCHES,
    *cloudformation_messaging.PATCHES,
    *cloudformation_monitoring.PATCHES,
    *custom_resources.PATCHES,
    *cloudformation_templates.PATCHES,
    *lambda_backend.PATCHES,
    *sqs.PATCHES,
    *sns.PATCHES,
    *sns_email.PATCHES,
    *s3.PATCHES,
    *bucket_events.PATCHES,
    *events.PATCHES,
    *schedules.PATCHES,
    *schedule_resources.PATCHES,
    *iam.PATCHES,
    *limits_messaging.PATCHES,
    *limits_lambda.PATCHES,
    *limits_stepfunctions.PATCHES,
    *limits_storage.PATCHES,
)


def apply_all(context: CloudContext, *, without: frozenset[str] = frozenset()) -> None:
    """Apply every patch to moto, once per process.

    Parameters
    ----------
    without
        Names of patch functions to leave out: how the tests show that each is needed.
    """
    for patch in PATCHES:
        if patch.__name__ not in without:
            patch(context)
