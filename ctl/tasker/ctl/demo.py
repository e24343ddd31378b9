"""`tasker demo`: a real checkout, from an empty folder to a confirmed order."""

from __future__ import annotations

from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final
from uuid import uuid4

import typer
from rich.console import Console

from tasker.client import StepState, StepUpdate, Task, TaskerClient, TaskState
from tasker.config.settings import OrchestrationSettings, WorkerSettings
from tasker.ctl.dev import migrated_database
from tasker.ctl.event_loop import run
from tasker.ctl.failures import ExitCode
from tasker.ctl.running import started, stop_request
from tasker.domain.errors import TaskerError
from tasker.orchestration.service import OrchestrationService
from tasker.telemetry.logs import configure_logs
from tasker.worker import load_handlers
from tasker.worker.service import WorkerService

_CHECKOUT: Final = {
    "cart_items": [{"product_id": 1, "quantity": 2}, {"product_id": 2, "quantity": 1}],
    "customer_info": {"email": "customer@example.com", "name": "Sam Doe"},
    "payment_info": {"method": "credit_card", "token": "tok_test_valid", "amount": 124.76},
}

_COLOURS: Final = {StepState.COMPLETE: "green", StepState.WAITING_FOR_RETRY: "yellow", StepState.ERROR: "red"}


class DemoError(TaskerError):
    """The demo could not show what it should."""

    reason = "DEMO_FAILED"


def demo(
    data_dir: Annotated[Path, typer.Option(help="Data of the embedded PostgreSQL.", metavar="DIR")] = Path(
        ".tasker/demo"
    ),
) -> None:
    """Run a checkout and show each step.

    Everything is real: an embedded PostgreSQL, both services, a client that calls over gRPC.
    """
    console = Console(soft_wrap=True, highlight=False)
    configure_logs("warning")
    examples = examples_folder()
    registry = load_handlers(examples)
    with migrated_database(None, data_dir, console) as database_url:
        # Whatever the environment says of other services: nobody but the demo calls these.
        private = {"bind_address": "127.0.0.1:0", "auth_enabled": False, "tls_enabled": False}
        orchestration = OrchestrationSettings.load(database_url=database_url, **private)
        worker = WorkerSettings.load(
            database_url=database_url, template_path=examples / "ecommerce_checkout", **private
        )
        done = run(_run(orchestration, WorkerService(worker, registry), console))
    if not done:
        raise typer.Exit(ExitCode.INTERRUPTED)


def examples_folder() -> Path:
    """Return where the examples are: inside the installed package, or at the root of a source checkout.

    Raises:
        DemoError: They are in neither place.
    """
    installed = Path(str(files("tasker.ctl").joinpath("bundled", "examples")))
    folder = installed if installed.is_dir() else Path(__file__).parents[3] / "examples"
    if not (folder / "ecommerce_checkout").is_dir():
        raise DemoError(f"the demo's workflow is missing: there is no {folder}; install tasker-engine anew")
    return folder


async def _run(settings: OrchestrationSettings, worker: WorkerService, console: Console) -> bool:
    """Run the services for one checkout; return False if somebody stopped it before its end."""
    orchestration = OrchestrationService(settings)
    async with stop_request() as stop, started([orchestration, worker], stop) as ready:
        if not ready:
            return False
        console.print(f"Orchestration on {orchestration.address}, worker on {worker.address}.")
        return await stop.done_before(_check_out(orchestration.address, console))


async def _check_out(address: str, console: Console) -> None:
    async with TaskerClient(address) as client:
        task = await client.create(
            "examples_ecommerce",
            "ecommerce_order_processing",
            _CHECKOUT,
            idempotency_key=f"demo-{uuid4()}",  # the template takes equal contexts for one order
            initiator="tasker demo",
        )
        console.print(f"Task {task.task_uuid}: {task.namespace}/{task.name}:{task.version}\n")
        began: dict[str, datetime] = {}
        async for update in client.watch(task.task_uuid, steps=True, from_start=True):
            if isinstance(update, StepUpdate):
                _show_step(update, began, console)
        _show_order(await client.get(task.task_uuid, steps=True), console)


def _show_step(update: StepUpdate, began: dict[str, datetime], console: Console) -> None:
    """Print what a step does: when it begins to run, and how that ended."""
    if update.state is StepState.IN_PROGRESS:
        began[update.name] = update.at
        console.print(f"  {update.name:<18} running")
    elif update.state in _COLOURS:
        took = (update.at - began.get(update.name, update.at)).total_seconds() * 1000
        console.print(f"  {update.name:<18} [{_COLOURS[update.state]}]{update.state}[/] after {took:.0f} ms")


def _show_order(task: Task, console: Console) -> None:
    if task.state is not TaskState.COMPLETE:
        raise DemoError(f"the checkout should be complete and is {task.state}: {_problem(task)}")
    cart, order, confirmation = (
        task.step(name).result for name in ("validate_cart", "create_order", "send_confirmation")
    )
    console.print(f"\n[bold]Order {order['order_id']}[/] is {order['status']}.")
    for item in order["items"]:
        console.print(f"  {item['quantity']} x {item['name']:<14} {item['line_total']:>8.2f}")
    for name in ("tax", "shipping", "total"):
        console.print(f"  {name:<18} {cart[name]:>8.2f}")
    console.print(f"Confirmation sent to {confirmation['recipient']}.")


def _problem(task: Task) -> str:
    errors = {step.name: step.error for step in task.steps if step.error is not None}
    return "; ".join(f"{name}: {error.get('message')}" for name, error in errors.items())
