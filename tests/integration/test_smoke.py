from tests.support.engine import Engine, chain, diamond


async def test_a_chain_completes(any_engine: Engine) -> None:
    task = await any_engine.create(chain(4))
    await any_engine.run(task)
    assert await any_engine.states(task) == {f"s{n}": "complete" for n in (1, 2, 3, 4)}


async def test_a_diamond_completes(engine: Engine) -> None:
    task = await engine.create(diamond())
    await engine.run(task)
    assert await engine.state(task) == "complete"
