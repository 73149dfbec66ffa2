"""Creating, updating and deleting a stack, one resource after another, in a thread of its own.

docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stack-failure-options.html and
using-cfn-updating-stacks-update-behaviors.html. AWS makes what is independent at the same time; here each
resource takes milliseconds, and the order is the same every time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import OutputMap, ResourceMap

from workflows.embedded_cloud.errors import EmbeddedCloudError
from workflows.embedded_cloud.stacks import provisioning
from workflows.embedded_cloud.stacks.cancellation import operate_under, raise_if_cancelled
from workflows.embedded_cloud.stacks.dependencies import dependencies, last_first
from workflows.embedded_cloud.stacks.failures import ResourceFailed, reason_of
from workflows.embedded_cloud.stacks.provisioning import Place, Provisioned
from workflows.embedded_cloud.stacks.records import STACK_TYPE, record_resource, record_stack, states_of

_log = logging.getLogger(__name__)
_INITIATED = "User Initiated"
ROLLBACK, DO_NOTHING, DELETE = "ROLLBACK", "DO_NOTHING", "DELETE"


@dataclass
class Operation:
    """What is under way on a stack."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Target:
    """What a stack is to become.

    Attributes
    ----------
    resources
        Moto's map: parameters, conditions and, once made, resources.
    bodies
        Parts of the template of resources that are to exist, in an order in which they can be made.
    """

    template: str
    document: dict[str, Any]
    parameters: dict[str, Any]
    resources: Any
    bodies: dict[str, dict[str, Any]]
    depends_on: dict[str, set[str]]


def target_of(stack: Any, template: str, parameters: dict[str, Any]) -> Target:
    """Check a template for a stack.

    Raises
    ------
    ValidationError
        In CloudFormation's words.
    """
    document = stack.parse_template(template)
    resources = ResourceMap(
        stack.stack_id,
        stack.name,
        parameters,
        stack.tags,
        account_id=stack.account_id,
        region_name=stack.region_name,
        template=document,
        cross_stack_resources=stack.cross_stack_resources,
    )
    resources.load()
    conditions = dict(resources.lazy_condition_map)
    bodies = {
        name: body
        for name, body in document["Resources"].items()
        if "Condition" not in body or conditions[body["Condition"]]
    }
    for name, body in bodies.items():
        _check_policies(name, body, resources)
    known = set(document.get("Parameters") or {}) | set(document.get("Mappings") or {})
    try:
        graph = dependencies(bodies, known, conditions)
    except EmbeddedCloudError as error:
        raise ValidationError(message=str(error)) from error
    return Target(template, document, parameters, resources, {name: bodies[name] for name in graph}, graph)


def _check_policies(name: str, body: dict[str, Any], resources: Any) -> None:
    for policy, allowed in provisioning.POLICIES.items():
        value = parsing.clean_json(body.get(policy), resources)
        if value is not None and value not in allowed:
            raise ValidationError(
                message=f"Template error: resource {name} has {policy} {value}, which is none of "
                f"{', '.join(allowed)}"
            )


def provisioned_in(stack: Any) -> dict[str, Provisioned]:
    """Return the resources that a stack has, by logical id."""
    found: dict[str, Provisioned] = stack.__dict__.setdefault("provisioned", {})
    return found


def wait_for(stack: Any) -> None:
    """Return when nothing is under way on a stack."""
    operation: Operation | None = getattr(stack, "operation", None)
    if operation is not None:
        operation.done.wait()


def cancel(stack: Any) -> None:
    """Have what is under way on a stack stop before its next resource."""
    operation: Operation | None = getattr(stack, "operation", None)
    if operation is not None:
        operation.cancelled.set()


class StackOperations:
    """Operations on one stack of moto's.

    Parameters
    ----------
    backend
        Moto's CloudFormation, which has the stack.
    on_failure
        ROLLBACK, DO_NOTHING or DELETE.
    """

    def __init__(self, backend: Any, stack: Any, on_failure: str = ROLLBACK) -> None:
        self._backend = backend
        self._stack = stack
        self._on_failure = on_failure
        self._place = Place(stack.account_id, stack.region_name, stack.stack_id)
        self._resources = provisioned_in(stack)

    def create(self, target: Target, then: Callable[[], None] = lambda: None) -> None:
        """Begin to make the resources of a new stack; ``then`` is called at the end."""
        stack = self._stack
        stack.description = target.document.get("Description")
        self._adopt(target)
        record_stack(stack, "CREATE_IN_PROGRESS", _INITIATED)
        self._begin(lambda: self._create(target), then)

    def update(
        self,
        target: Target,
        role_arn: str | None,
        tags: dict[str, str] | None,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin to make a stack what it is to become."""
        record_stack(self._stack, "UPDATE_IN_PROGRESS", _INITIATED)
        self._begin(lambda: self._update(target, role_arn, tags), then)

    def delete(self, retained: Iterable[str] = ()) -> None:
        """Begin to delete a stack, as soon as what is under way on it has stopped.

        Parameters
        ----------
        retained
            Logical ids of resources that are left.
        """
        previous = getattr(self._stack, "operation", None)
        record_stack(self._stack, "DELETE_IN_PROGRESS", _INITIATED)

        def work() -> None:
            if previous is not None:
                previous.cancelled.set()
                previous.done.wait()
            self._delete_stack(set(retained))

        self._begin(work, lambda: None)

    def _begin(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        operation = Operation()
        self._stack.operation = operation

        def run() -> None:
            operate_under(operation.cancelled)
            try:
                work()
            except Exception as error:
                _log.exception("Stack %s", self._stack.name)
                kind = self._stack.status.removesuffix("_IN_PROGRESS").removesuffix("_CLEANUP")
                record_stack(self._stack, f"{kind.removesuffix('_COMPLETE')}_FAILED", reason_of(error))
            finally:
                if self._stack.operation is operation:
                    self._stack.operation = None
                then()
                operation.done.set()

        threading.Thread(target=run, name=f"stack {self._stack.name}", daemon=True).start()

    # Creation

    def _create(self, target: Target) -> None:
        try:
            for name in target.bodies:
                raise_if_cancelled()
                self._make(name, target)
            self._publish_outputs(target)
        except Exception as error:
            self._creation_failed(error)
        else:
            record_stack(self._stack, "CREATE_COMPLETE")

    def _creation_failed(self, error: Exception) -> None:
        stack, reason = self._stack, _stack_reason(error)
        if stack.status == "DELETE_IN_PROGRESS":
            return  # it goes on from here
        if self._on_failure == DO_NOTHING:
            record_stack(stack, "CREATE_FAILED", reason)
            return
        if self._on_failure == DELETE:
            record_stack(stack, "DELETE_IN_PROGRESS", reason)
            self._delete_stack(set(), on_create=True)
            return
        record_stack(stack, "ROLLBACK_IN_PROGRESS", reason)
        failures = self._remove_all(set(), on_create=True)
        if failures:
            record_stack(stack, "ROLLBACK_FAILED", _undeleted(failures))
        else:
            record_stack(stack, "ROLLBACK_COMPLETE")
            stack.status_reason = reason

    def _make(self, name: str, target: Target) -> None:
        body, stack = target.bodies[name], self._stack
        label = (name, str(body.get("Type")))
        record_resource(stack, label, "CREATE_IN_PROGRESS")
        others = list(self._resources.values())
        try:
            made = provisioning.create(
                name, body, target.depends_on[name], target.resources, self._place, others
            )
        except Exception as error:
            self._keep_remains(name, target, error)
            _fail(stack, label, "CREATE_FAILED", error)
            raise
        self._have(made, target)
        record_resource(stack, label, "CREATE_COMPLETE", physical_id=made.physical_id)

    def _keep_remains(self, name: str, target: Target, error: Exception) -> None:
        model = getattr(error, "model", None)
        if model is not None:
            declared = provisioning.resolve(target.bodies[name], target.resources)
            remains = Provisioned(
                name, model, declared, name, frozenset(target.depends_on[name]), certain=False
            )
            self._resources[name] = remains

    # Update

    def _update(self, target: Target, role_arn: str | None, tags: dict[str, str] | None) -> None:
        stack, before = self._stack, dict(self._resources)
        replaced: list[Provisioned] = []
        for name, resource in before.items():
            if name in target.bodies:
                target.resources._parsed_resources[name] = resource.model
        try:
            for name in target.bodies:
                raise_if_cancelled()
                if name in before:
                    self._change(name, target, replaced)
                else:
                    self._make(name, target)
            self._publish_outputs(target)
        except Exception as error:
            self._update_failed(error, before, target)
            return
        unused = [resource for name, resource in before.items() if name not in target.bodies]
        self._adopt(target)
        stack.description = target.document.get("Description")
        stack.role_arn = role_arn or stack.role_arn
        stack.tags = stack.tags if tags is None else tags
        if unused or replaced:
            record_stack(stack, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
            self._clean_up([*unused, *replaced])
        record_stack(stack, "UPDATE_COMPLETE")

    def _change(self, name: str, target: Target, replaced: list[Provisioned]) -> None:
        stack, before, body = self._stack, self._resources[name], target.bodies[name]
        label = (name, before.kind)
        depends_on = target.depends_on[name]
        declared = provisioning.resolve(body, target.resources)
        if not provisioning.is_changed(before, declared):
            self._have(provisioning.with_policies(before, declared, depends_on), target)
            return
        record_resource(stack, label, "UPDATE_IN_PROGRESS", physical_id=before.physical_id)
        others = list(self._resources.values())
        try:
            done = provisioning.update(before, body, depends_on, target.resources, self._place, others)
        except Exception as error:
            self._resources[name] = replace(before, certain=False)
            _fail(stack, label, "UPDATE_FAILED", error)
            raise
        if done.replaced:
            replaced.append(before)
        self._have(done.after, target)
        record_resource(stack, label, "UPDATE_COMPLETE", physical_id=done.after.physical_id)

    def _update_failed(self, error: Exception, before: dict[str, Provisioned], target: Target) -> None:
        stack, reason = self._stack, _stack_reason(error)
        if self._on_failure == DO_NOTHING:
            self._adopt(target)
            record_stack(stack, "UPDATE_FAILED", reason)
            return
        record_stack(stack, "UPDATE_ROLLBACK_IN_PROGRESS", reason)
        try:
            new = self._restore(before)
            restored = target_of(stack, stack.template, stack.parameters)
            self._publish_outputs(restored)
            self._adopt(restored)
        except Exception as again:
            record_stack(stack, "UPDATE_ROLLBACK_FAILED", reason_of(again))
            return
        if new:
            record_stack(stack, "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
            self._clean_up(new)
        record_stack(stack, "UPDATE_ROLLBACK_COMPLETE")
        stack.status_reason = reason

    def _restore(self, before: dict[str, Provisioned]) -> list[Provisioned]:
        """Make every resource what it was, and return those that were made instead or in addition."""
        new: list[Provisioned] = []
        for name in self._last_first():
            now = self._resources[name]
            was = before.get(name)
            if was is None:
                new.append(now)
                del self._resources[name]
            elif now.physical_id != was.physical_id:
                new.append(now)
                self._resources[name] = was
                record_resource(self._stack, (name, was.kind), "UPDATE_COMPLETE", physical_id=was.physical_id)
            elif provisioning.is_changed(now, was.declared):
                record_resource(self._stack, (name, was.kind), "UPDATE_IN_PROGRESS")
                try:
                    restored = provisioning.in_place(now, was.declared, was.depends_on, self._place).after
                except Exception as error:
                    _fail(self._stack, (name, was.kind), "UPDATE_FAILED", error)
                    raise
                self._resources[name] = restored
                record_resource(
                    self._stack, (name, was.kind), "UPDATE_COMPLETE", physical_id=restored.physical_id
                )
            else:
                self._resources[name] = was
        return new

    # Deletion

    def _delete_stack(self, retained: set[str], *, on_create: bool = False) -> None:
        stack, backend = self._stack, self._backend
        failures = self._remove_all(retained, on_create=on_create)
        if failures:
            record_stack(stack, "DELETE_FAILED", _undeleted(failures))
            return
        record_stack(stack, "DELETE_COMPLETE")
        for name in [name for name, export in backend.exports.items() if export in stack.published_exports]:
            del backend.exports[name]
        for key, change_set in list(backend.change_sets.items()):
            if change_set.stack_id == stack.stack_id:
                del backend.change_sets[key]
        backend.deleted_stacks[stack.stack_id] = stack
        backend.stacks.pop(stack.stack_id, None)

    def _remove_all(self, retained: set[str], *, on_create: bool = False) -> dict[str, str]:
        """Delete every resource, those first that depend on others; return what could not be, and why.

        What a resource that is left depends on is left too.
        """
        failures: dict[str, str] = {}
        needed: set[str] = set()
        for name in self._last_first():
            resource = self._resources[name]
            label = (name, resource.kind)
            if name in needed:
                needed |= resource.depends_on
                continue
            if name in retained or resource.kept_by("DeletionPolicy", on_create=on_create):
                del self._resources[name]
                record_resource(self._stack, label, "DELETE_SKIPPED")
                continue
            reason = self._remove(resource)
            if reason is None:
                del self._resources[name]
            else:
                failures[name] = reason
                needed |= resource.depends_on
        return failures

    def _clean_up(self, resources: list[Provisioned]) -> None:
        """Delete what has been taken out of use; what cannot be deleted is left, as its event says."""
        for resource in reversed(resources):
            now = self._resources.get(resource.logical_id)
            replaced = now is not None and now is not resource
            label = (resource.logical_id, resource.kind)
            if resource.kept_by("UpdateReplacePolicy" if replaced else "DeletionPolicy"):
                record_resource(self._stack, label, "DELETE_SKIPPED", physical_id=resource.physical_id)
            else:
                self._remove(resource)
            if now is not None and replaced:
                state = states_of(self._stack)[resource.logical_id]
                states_of(self._stack)[resource.logical_id] = replace(
                    state, physical_resource_id=now.physical_id, resource_status="UPDATE_COMPLETE"
                )
            else:
                self._resources.pop(resource.logical_id, None)
                states_of(self._stack).pop(resource.logical_id, None)

    def _remove(self, resource: Provisioned) -> str | None:
        """Delete a resource; return the reason if it cannot be."""
        label, physical_id = (resource.logical_id, resource.kind), resource.physical_id
        record_resource(self._stack, label, "DELETE_IN_PROGRESS", physical_id=physical_id)
        try:
            provisioning.delete(resource, self._place)
        except Exception as error:
            reason = reason_of(error)
            record_resource(self._stack, label, "DELETE_FAILED", physical_id=physical_id, reason=reason)
            return reason
        record_resource(self._stack, label, "DELETE_COMPLETE", physical_id=physical_id)
        return None

    def _last_first(self) -> list[str]:
        return last_first({name: resource.depends_on for name, resource in self._resources.items()})

    # What the stack is

    def _have(self, resource: Provisioned, target: Target) -> None:
        self._resources.pop(resource.logical_id, None)  # the order is that of dependencies
        self._resources[resource.logical_id] = resource
        target.resources._parsed_resources[resource.logical_id] = resource.model

    def _adopt(self, target: Target) -> None:
        stack = self._stack
        stack.template, stack.template_dict = target.template, target.document
        stack.parameters, stack.resource_map = target.parameters, target.resources

    def _publish_outputs(self, target: Target) -> None:
        """Find what the stack puts out, now that its resources are there."""
        stack, backend = self._stack, self._backend
        outputs = OutputMap(target.resources, target.document, stack.stack_id)
        for resource in self._resources.values():
            target.resources._parsed_resources[resource.logical_id] = resource.model
        values = [outputs[name] for name in outputs.outputs]
        conditions = target.resources.lazy_condition_map
        taken = [
            (name, body)
            for name, body in (target.document.get("Outputs") or {}).items()
            if "Condition" not in body or conditions[body["Condition"]]
        ]
        shown = {**target.document, "Outputs": dict(taken)}
        exports = OutputMap(target.resources, shown, stack.stack_id).exports
        for export in exports:
            other = backend.exports.get(export.name)
            if other is not None and other.exporting_stack_id != stack.stack_id:
                raise ResourceFailed(f"Export with name {export.name} is already exported by another stack")
        for name in [
            name for name, each in backend.exports.items() if each.exporting_stack_id == stack.stack_id
        ]:
            del backend.exports[name]
        backend.exports.update({export.name: export for export in exports})
        stack.published_exports = exports
        stack.published_outputs = [each for each in values if each]


def _fail(stack: Any, label: tuple[str, str], status: str, error: Exception) -> None:
    verb = status.removesuffix("_FAILED").lower()
    error.failed_resource = f"failed to {verb}: [{label[0]}]"  # type: ignore[attr-defined]
    record_resource(stack, label, status, reason=reason_of(error))


def _stack_reason(error: Exception) -> str:
    failed = getattr(error, "failed_resource", None)
    return reason_of(error) if failed is None else f"The following resource(s) {failed}. {reason_of(error)}"


def _undeleted(failures: dict[str, str]) -> str:
    names = ", ".join(failures)
    return f"The following resource(s) failed to delete: [{names}]. {'; '.join(failures.values())}"


__all__ = ["DELETE", "DO_NOTHING", "ROLLBACK", "STACK_TYPE", "StackOperations", "Target", "target_of"]
