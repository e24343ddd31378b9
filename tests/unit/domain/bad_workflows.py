"""One minimal template for each thing that can be wrong with its steps as a graph."""

from __future__ import annotations

from typing import Any

from tasker.domain.templates.findings import Code, Severity
from tests.unit.domain.examples import (
    a_step,
    a_template,
    batch_worker,
    batchable,
    convergence,
    decision,
    two_branches,
)

E, W = Severity.ERROR, Severity.WARNING

#: Code, severity, document, path, message.
BAD_WORKFLOWS: list[tuple[Code, Severity, Any, str, str]] = [
    (
        Code.DUPLICATE_STEP_NAME,
        E,
        a_template(a_step("a"), a_step("b", "a"), a_step("a")),
        "steps[2].name",
        "step name 'a' is used twice",
    ),
    (
        Code.DUPLICATE_DEPENDENCY,
        E,
        a_template(a_step("a"), a_step("b", "a", "a")),
        "steps[1].dependencies[1]",
        "step 'b' depends on 'a' twice",
    ),
    (
        Code.SELF_DEPENDENCY,
        E,
        a_template(a_step("a", "a")),
        "steps[0].dependencies[0]",
        "step 'a' depends on itself",
    ),
    (
        Code.MISSING_DEP_REF,
        E,
        a_template(a_step("a", "ghost")),
        "steps[0].dependencies[0]",
        "step 'a' depends on unknown step 'ghost'",
    ),
    (
        Code.CYCLE_DETECTED,
        E,
        a_template(a_step("root"), a_step("a", "root", "c"), a_step("b", "a"), a_step("c", "b")),
        "steps[1]",
        "dependency cycle: a -> b -> c -> a",
    ),
    (
        Code.DECISION_WITHOUT_PARENT,
        E,
        a_template(decision("route"), a_step("a", "route")),
        "steps[0]",
        "decision step 'route' needs at least one dependency",
    ),
    (
        Code.DECISION_WITHOUT_CHILD,
        W,
        a_template(a_step("a"), decision("route", "a")),
        "steps[1]",
        "no step depends on decision step 'route', so it decides nothing",
    ),
    (
        Code.BATCH_WORKER_UNRESOLVED,
        E,
        a_template(batchable("split"), a_step("b", "split")),
        "steps[0]",
        "batchable step 'split' names no batch_worker",
    ),
    (
        Code.BATCH_WORKER_UNRESOLVED,
        E,
        a_template(
            batchable("split", batch_config={"worker_template": "ghost"}),
            batch_worker("w", "split"),
            convergence("c", "w"),
        ),
        "steps[0]",
        "batchable step 'split' names no batch_worker; 'ghost' is no step",
    ),
    (
        Code.BATCH_WORKER_UNRESOLVED,
        E,
        a_template(batchable("split"), batch_worker("v", "split"), batch_worker("w", "split")),
        "steps[0]",
        "batchable step 'split' names no batch_worker",
    ),
    (
        Code.WORKER_WRONG_TYPE,
        E,
        a_template(batchable("split", batch_config={"worker_template": "b"}), a_step("b", "split")),
        "steps[0]",
        "batchable step 'split' names 'b', a standard step, no batch_worker",
    ),
    (
        Code.WORKER_ORPHAN,
        E,
        a_template(a_step("a"), batch_worker("w", "a")),
        "steps[1]",
        "batch_worker 'w' must depend on exactly one batchable step, not 0",
    ),
    (
        Code.WORKER_ORPHAN,
        E,
        a_template(
            batchable("one"),
            batchable("two", "one", batch_config={"worker_template": "w"}),
            batch_worker("w", "one"),
        ),
        "steps[2]",
        "batch_worker 'w' must depend on 'two', which names it",
    ),
    (
        Code.WORKER_ORPHAN,
        E,
        a_template(
            a_step("a"),
            decision("d", "a"),
            a_step("x", "d"),
            batchable("split"),
            batch_worker("w", "split", "x"),
        ),
        "steps[4]",
        "batch_worker 'w' depends on 'x', which may not exist yet when 'split' is split; let 'split' depend on it",
    ),
    (
        Code.WORKER_AS_PARENT,
        E,
        a_template(batchable("split"), batch_worker("w", "split"), a_step("b", "w")),
        "steps[2]",
        "step 'b' depends on batch_worker 'w'; only a deferred_convergence can",
    ),
    (
        Code.CONVERGENCE_STATIC,
        E,
        a_template(a_step("a"), convergence("c", "a")),
        "steps[1]",
        "deferred_convergence 'c' descends from no decision or batchable step; make it standard",
    ),
    (
        Code.STEP_NAME_RESERVED,
        E,
        a_template(batchable("split"), batch_worker("w", "split"), a_step("w_001", "split")),
        "steps[2]",
        "step name 'w_001' is reserved for an instance of batch_worker 'w'",
    ),
    (
        Code.STRADDLING_JOIN,
        W,
        two_branches(a_step("join", "left", "right")),
        "steps[4]",
        "step 'join' joins branches 'left' and 'right' of decision 'route': "
        "it exists only if both are chosen; make it a deferred_convergence",
    ),
    (
        Code.CONVERGENCE_OMITS_DECISION,
        W,
        two_branches(convergence("join", "left", "right")),
        "steps[4]",
        "deferred_convergence 'join' vanishes when 'route' chooses no branch; let it depend on it",
    ),
    (
        Code.ORPHAN_STEP,
        W,
        a_template(a_step("a"), a_step("b", "a"), a_step("alone")),
        "steps[2]",
        "step 'alone' has no dependency and no dependant",
    ),
]
