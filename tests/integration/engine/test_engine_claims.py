"""Claims: whether they wait for the disk, and which templates come that far."""

from __future__ import annotations

import pytest

from tasker.domain.retry import LEASE
from tasker.messaging.queues import worker_queue
from tasker.persistence.reading.templates import StoredTemplate
from tests.support.engine import Engine, chain

_CLAIM = (
    "SELECT count(*) FROM tasker.claim_steps_v1(%s, '{0,0}', 10, gen_random_uuid(), gen_random_uuid(), %s, '{work}', "
    "'60 s', 65536, NULL)"
)


@pytest.mark.parametrize(
    ("attempts", "waits"), [({"once": 1, "often": 3}, "on"), ({"once": 3, "often": 3}, "off")]
)
@pytest.mark.parametrize("first", ["once", "often"])
async def test_one_step_that_may_not_repeat_makes_the_whole_claim_wait_for_the_disk(
    engine: Engine, attempts: dict[str, int], waits: str, first: str
) -> None:
    for namespace, maximum in attempts.items():
        await engine.create(chain(1, retry={"max_attempts": maximum}) | {"namespace_name": namespace})
    second = "often" if first == "once" else "once"
    async with engine.database.transaction() as transaction:
        queues = [worker_queue(first), worker_queue(second)]
        assert await transaction.fetch_value(_CLAIM, (queues, LEASE)) == 2
        assert await transaction.fetch_value("SELECT current_setting('synchronous_commit')") == waits


async def test_a_template_that_changes_while_it_is_read_is_not_kept(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = await engine.register(chain(1))
    catalogue = engine.creator._catalogue
    templates = catalogue._templates
    get = templates.get

    async def get_while_it_changes(namespace: str, name: str, version: str) -> StoredTemplate:
        stored = await get(namespace, name, version)
        await engine.register(chain(2))
        catalogue.forget()
        return stored

    monkeypatch.setattr(templates, "get", get_while_it_changes)
    await catalogue.get(template.namespace_name, template.name, template.version)
    monkeypatch.setattr(templates, "get", get)
    later = await catalogue.get(template.namespace_name, template.name, template.version)
    assert len(later.revision.steps) == 2
