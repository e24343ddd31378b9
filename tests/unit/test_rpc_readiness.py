"""The parts of a service's life, and what probes are told in each."""

from __future__ import annotations

from tasker.rpc.health import HealthReporter
from tasker.rpc.readiness import OperationalState, Readiness


class Told(HealthReporter):
    """Notes what is told."""

    def __init__(self) -> None:
        super().__init__([])
        self.told: list[bool] = []

    async def set_ready(self, ready: bool) -> None:
        self.told.append(ready)
        await super().set_ready(ready)


async def test_a_service_goes_through_its_life() -> None:
    problems: list[str | None] = ["away"]
    told = Told()
    readiness = Readiness(lambda: problems[0])
    readiness.report_to(told)
    assert str(readiness.state) == OperationalState.STARTUP
    await readiness.update()
    assert (str(readiness.state), told.told) == (OperationalState.STARTUP, [])
    problems[0] = None
    await readiness.update()
    assert (str(readiness.state), told.told) == (OperationalState.NORMAL, [True])
    problems[0] = "away"
    await readiness.update()
    assert (str(readiness.state), told.told) == (OperationalState.EMERGENCY, [True, False])
    problems[0] = None
    await readiness.update()
    await readiness.update()
    assert told.told == [True, False, True]
    await readiness.stopping()
    assert (str(readiness.state), told.told[-1]) == (OperationalState.GRACEFUL_SHUTDOWN, False)
    assert readiness.problems == ["the service is stopping"]
    await readiness.update()  # nothing makes it ready again
    assert told.told == [True, False, True, False]
    readiness.stopped()
    assert str(readiness.state) == OperationalState.STOPPED


async def test_every_condition_counts() -> None:
    readiness = Readiness(lambda: "this", lambda: None, lambda: "that")
    assert readiness.problems == ["this", "that"]
