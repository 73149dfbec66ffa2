"""Stacks of the template beside each other share nothing."""

from __future__ import annotations

from lamella.client import Stack
from tests.integration.stacks import physical_ids, stack_of
from workflows.embedded_cloud import EmbeddedCloud

EVERYTHING = {
    "Dashboard": "true",
    "Alarms": "true",
    "DataBuckets": "their-data",
    "Notifications": "true",
}
# The same in every stack: it is no name of anything that is there.
SHARED = {"Cleanup"}


def test_no_two_stacks_share_a_name(cloud: EmbeddedCloud, stack: Stack, everything_on: Stack) -> None:
    with (
        stack_of(cloud, "other", **EVERYTHING),
        stack_of(cloud, "prefixed", NamePrefix="apart", **EVERYTHING),
    ):
        of = (stack.name, everything_on.name, "other", "prefixed")
        names = [physical_ids(cloud, name) for name in of]

    own = [{physical for logical, physical in found.items() if logical not in SHARED} for found in names]
    assert sum(map(len, own)) == len(set.union(*own))
    assert names[3]["StateMachine"].endswith(":apart-inference")
