"""Tokens that were verified are remembered, for as long as what was found out about them holds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from tasker.rpc.credentials import tokens
from tasker.rpc.credentials.public_keys import StaticKeys, parse_public_keys
from tasker.rpc.credentials.refusals import CredentialRefusedError, Granting
from tasker.rpc.credentials.tokens import TokenRules, TokenVerifier
from tasker.rpc.key_files import Reloaded
from tests.support.credentials import public_pem, rsa_key, token


def write_keys(path: Path, name: str) -> None:
    path.write_bytes(public_pem(rsa_key(name)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_keys(tmp_path / "keys.pem", "first")
    return tmp_path / "keys.pem"


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(path: Path, clock: Clock) -> TokenVerifier:
    keys = StaticKeys(Reloaded([path], lambda: parse_public_keys(path.read_bytes(), source=str(path))))
    return TokenVerifier(TokenRules(), keys, Granting(strict=True), clock=clock)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signatures were verified."""
    seen: list[str] = []
    decode = jwt.decode

    def counting(given: str, *args: Any, **options: Any) -> Any:
        seen.append(given)
        return decode(given, *args, **options)

    monkeypatch.setattr(jwt, "decode", counting)
    return seen


async def test_a_signature_is_verified_once(verifier: TokenVerifier, verified: list[str]) -> None:
    first, second = token("tasks:read"), token("tasks:list", sub="grace")
    for _ in range(3):
        assert (await verifier.verify(first)).permissions == {"tasks:read"}
        assert (await verifier.verify(second)).subject == "grace"
    assert verified == [first, second]


async def test_a_token_that_expires_is_looked_at_again(
    verifier: TokenVerifier, verified: list[str], clock: Clock
) -> None:
    given = token("tasks:read", exp=int(clock.now) + 100)
    await verifier.verify(given)
    clock.now += 100  # within the leeway of a minute
    await verifier.verify(given)
    assert len(verified) == 1
    clock.now += 61
    await verifier.verify(given)
    assert len(verified) == 2


async def test_a_key_that_is_taken_away_takes_its_tokens_with_it(
    verifier: TokenVerifier, verified: list[str], path: Path
) -> None:
    given = token("tasks:read")
    await verifier.verify(given)
    write_keys(path, "second")
    with pytest.raises(CredentialRefusedError):
        await verifier.verify(given)
    assert len(verified) == 2


async def test_bad_tokens_are_not_remembered(verifier: TokenVerifier, verified: list[str]) -> None:
    for _ in range(3):
        with pytest.raises(CredentialRefusedError):
            await verifier.verify(token("tasks:read", aud="others", jti="same"))
    assert len(verified) == 3


async def test_only_so_many_are_remembered(
    verifier: TokenVerifier, verified: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_MOST_VERIFIED", 3)
    given = [token("tasks:read", jti=str(number)) for number in range(5)]
    for one in given:
        await verifier.verify(one)
    await verifier.verify(given[4])
    assert len(verified) == 5
    await verifier.verify(given[0])
    assert len(verified) == 6
