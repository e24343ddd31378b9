"""Keys of an identity provider: fetched from a real server on loopback, at moments that the test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tasker.domain.errors import UnavailableError
from tasker.rpc.credentials.fetching import fetch
from tasker.rpc.credentials.key_sets import KeySet, KeySetTimes
from tasker.rpc.credentials.locations import KeySetError, KeySetLocation
from tasker.rpc.credentials.refusals import CredentialRefusedError, Granting
from tasker.rpc.credentials.tokens import TokenRules, TokenVerifier
from tests.support import waiting
from tests.support.credentials import Authority, ec_key, jwk, rsa_key, token
from tests.support.key_set_server import KeySetServer, key_set_server

REFRESH, STALE = 3600.0, 300.0


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Provider:
    """A server of keys, and what verifies tokens with them."""

    def __init__(self, server: KeySetServer) -> None:
        self.server = server
        self.clock = Clock()
        self.key_set = KeySet(
            KeySetLocation(server.url, allow_http=True),
            KeySetTimes(REFRESH, STALE),
            ("RS256", "ES256"),
            clock=self.clock,
        )
        self._verifier = TokenVerifier(TokenRules(), self.key_set, Granting(strict=True))

    async def accepts(self, key_id: str | None, key: Any = None, algorithm: str = "RS256") -> bool:
        """Return whether a token is good that a key has signed."""
        made = token("tasks:read", key=key or rsa_key(), algorithm=algorithm, key_id=key_id)
        try:
            await waiting.within(self._verifier.verify(made))
        except CredentialRefusedError:
            return False
        return True


@asynccontextmanager
async def provider(*keys: dict[str, Any]) -> AsyncIterator[Provider]:
    async with key_set_server(*keys) as server:
        made = Provider(server)
        await made.key_set.start()
        try:
            yield made
        finally:
            server.may_answer.set()
            await made.key_set.stop()


def first_key() -> dict[str, Any]:
    return jwk(rsa_key("first"), "1")


def second_key() -> dict[str, Any]:
    return jwk(rsa_key("second"), "2")


async def test_tokens_are_verified_with_the_key_they_name() -> None:
    async with provider(first_key(), second_key(), jwk(ec_key(), "3", alg="ES256", use="sig")) as it:
        assert await it.accepts("1", rsa_key("first"))
        assert await it.accepts("2", rsa_key("second"))
        assert await it.accepts("3", ec_key(), "ES256")
        assert not await it.accepts("1", rsa_key("second"))
        assert not await it.accepts("3", rsa_key("first"))  # that key is for another algorithm
        assert not await it.accepts(None, rsa_key("first"))
        assert it.server.requests == 1


async def test_keys_that_are_for_something_else_are_left_out() -> None:
    first = first_key()
    unusable = (
        {**first, "kid": "encryption", "use": "enc"},
        {**first, "kid": "other algorithm", "alg": "RS512"},
        {**first, "kid": 7},
        {name: value for name, value in first.items() if name != "kid"},
        {"kid": "secret", "kty": "oct", "k": "c2VjcmV0"},
        {**first, "kid": "broken", "n": "!"},
        jwk(rsa_key("short", 1024), "short"),
    )
    async with provider(first, *unusable) as it:
        assert await it.accepts("1")
        for key_id in ("encryption", "other algorithm", "secret", "broken", "short"):
            with pytest.raises(CredentialRefusedError):
                await it.key_set.candidates(key_id)


async def test_a_new_key_is_found_by_the_first_token_that_names_it() -> None:
    async with provider(first_key()) as it:
        it.server.keys.append(second_key())
        assert await it.accepts("2", rsa_key("second"))
        assert it.server.requests == 2


async def test_a_flood_of_unknown_keys_asks_once_in_ten_seconds() -> None:
    async with provider(first_key()) as it:
        assert not any([await it.accepts(f"made up {number}") for number in range(50)])
        assert not any(await asyncio.gather(*(it.accepts(f"made up {number}") for number in range(50))))
        assert it.server.requests == 2
        it.clock.now += 9.9
        assert not await it.accepts("made up")
        assert await it.accepts("1")
        assert it.server.requests == 2
        it.clock.now += 0.2
        assert not any(await asyncio.gather(*(it.accepts(f"made up {number}") for number in range(50))))
        assert it.server.requests == 3


async def test_many_who_need_the_keys_wait_for_one_answer() -> None:
    async with provider(first_key()) as it:
        it.server.keys.append(second_key())
        it.server.may_answer.clear()
        waiting_for = [asyncio.create_task(it.accepts("2", rsa_key("second"))) for _ in range(20)]
        await waiting.until(lambda: it.server.requests == 2)
        it.server.may_answer.set()
        assert all(await asyncio.gather(*waiting_for))
        assert it.server.requests == 2


async def test_a_key_that_is_taken_away_is_refused_after_the_next_refresh() -> None:
    async with provider(first_key(), second_key()) as it:
        it.server.keys.pop()
        it.clock.now += REFRESH - 1
        assert await it.accepts("2", rsa_key("second"))
        assert it.server.requests == 1
        it.clock.now += 1
        await it.accepts("2", rsa_key("second"))  # begins the refresh, and waits for nothing
        await waiting.until(lambda: it.server.requests == 2)

        async def refused() -> bool:
            return not await it.accepts("2", rsa_key("second"))

        await waiting.until(refused)
        assert await it.accepts("1")


async def test_a_provider_that_is_down_is_done_without_until_its_keys_are_stale() -> None:
    async with provider(first_key()) as it:
        it.server.status = 500
        it.clock.now += REFRESH + STALE - 1
        with capture_logs() as logs:
            assert await it.accepts("1")
            await waiting.until(lambda: any(log["event"] == "key_set_not_fetched" for log in logs))
        assert await it.accepts("1")
        assert it.server.requests == 2  # a failure is not repeated at once
        it.clock.now += 1
        with pytest.raises(UnavailableError, match="the identity provider does not answer"):
            await it.accepts("1")
        it.server.status = 200
        it.clock.now += 10
        assert await it.accepts("1")  # which waits for the answer
        assert it.server.requests == 3


async def test_a_provider_that_is_down_at_the_start_is_asked_again() -> None:
    async with key_set_server(first_key()) as server:
        server.status = 503
        it = Provider(server)
        await it.key_set.start()
        with pytest.raises(UnavailableError):
            await it.accepts("1")
        server.status = 200
        it.clock.now += 10
        assert await it.accepts("1")
        await it.key_set.stop()


async def test_it_stops_while_it_waits_for_an_answer() -> None:
    async with provider(first_key()) as it:
        it.server.may_answer.clear()
        call = asyncio.create_task(it.accepts("unknown"))
        await waiting.until(lambda: it.server.requests == 2)
        await waiting.within(it.key_set.stop())
        with pytest.raises(asyncio.CancelledError):
            await waiting.within(call)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"keys": 7}', b'{"keys": []}', b'{"keys": [7]}', b"[" * 100_000],
    ids=["nothing", "html", "list", "no keys", "number", "empty", "no objects", "deep"],
)
async def test_an_answer_that_is_no_key_set_leaves_the_last_keys_in_place(body: bytes) -> None:
    async with provider(first_key()) as it:
        it.server.body = body
        with capture_logs() as logs:
            assert not await it.accepts("2")
        assert [log["event"] for log in logs] == ["key_set_not_fetched"]
        assert await it.accepts("1")


# Where it is fetched from


async def test_redirects_are_not_followed() -> None:
    async with key_set_server(first_key()) as elsewhere, key_set_server() as server:
        server.headers = {"location": elsewhere.url}
        for status in (301, 302, 303, 307, 308):
            server.status = status
            with pytest.raises(KeySetError, match=f"answered {status}, not 200"):
                await fetch(KeySetLocation(server.url, allow_http=True))
        assert elsewhere.requests == 0


async def test_an_answer_without_end_is_cut_off() -> None:
    async with key_set_server() as server:
        server.body = b"x" * (1024 * 1024 + 1)
        with pytest.raises(KeySetError, match="larger than 1048576 bytes"):
            await fetch(KeySetLocation(server.url, allow_http=True))


async def test_https_is_spoken_with_a_server_that_an_authority_vouches_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    async with key_set_server(first_key(), certificate=authority.issue("server")) as server:
        location = KeySetLocation(server.url, allow_http=True)  # for loopback's sake
        with pytest.raises(KeySetError, match=r"cannot be reached: .*certificate verify failed"):
            await fetch(location)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        assert b'"keys"' in await fetch(location)
        assert server.requests == 1


async def test_nobody_there_is_said_as_such() -> None:
    async with key_set_server() as server:
        url = server.url
    with pytest.raises(KeySetError, match="cannot be reached"):
        await fetch(KeySetLocation(url, allow_http=True))
    with pytest.raises(KeySetError, match="cannot be reached"):
        await fetch(KeySetLocation("https://no-such-host.invalid/keys"))


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/keys", "https://[::1]/keys", "https://[::ffff:127.0.0.1]/keys"]
)
def test_this_machine_is_no_place_for_keys(url: str) -> None:
    for location in (KeySetLocation(url), KeySetLocation(url, allow_private=True)):
        with pytest.raises(KeySetError, match="is not public; TASKER_JWKS_ALLOW_HTTP allows it"):
            location.check()
    KeySetLocation(url, allow_http=True).check()


@pytest.mark.parametrize(
    "host", ["10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "[fd00::1]", "[fc00::1]"]
)
def test_private_hosts_are_refused_unless_they_are_allowed(host: str) -> None:
    for allow_http in (False, True):
        with pytest.raises(KeySetError, match="is not public; TASKER_JWKS_ALLOW_PRIVATE_HOSTS allows it"):
            KeySetLocation(f"https://{host}/keys", allow_http=allow_http).check()
    KeySetLocation(f"https://{host}/keys", allow_private=True).check()


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "0.0.0.0", "[::]", "224.0.0.1"])
def test_where_clouds_keep_their_secrets_is_never_asked(host: str) -> None:
    with pytest.raises(KeySetError, match="is not public; nothing allows it"):
        KeySetLocation(f"https://{host}/keys", allow_http=True, allow_private=True).check()


async def test_a_name_is_judged_by_its_addresses() -> None:
    async with key_set_server(first_key()) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        assert b'"keys"' in await fetch(KeySetLocation(url, allow_http=True))
        with pytest.raises(KeySetError, match=r"has the address .*, which is not public"):
            await fetch(KeySetLocation(url.replace("http:", "https:")))
        assert server.requests == 1


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://idp.example.com/keys", "must be https"),
        ("ftp://idp.example.com/keys", "must be https://HOST/PATH"),
        ("idp.example.com/keys", "must be https://HOST/PATH"),
        ("https:///keys", "must be https://HOST/PATH"),
        ("https://ada:secret@idp.example.com/keys", "no user and no password"),
        ("https://idp.example.com:port/keys", "malformed"),
    ],
)
def test_a_url_that_cannot_be_is_refused_at_once(url: str, problem: str) -> None:
    with pytest.raises(KeySetError, match=problem) as caught:
        KeySet(KeySetLocation(url), KeySetTimes(), ("RS256",))
    assert "secret" not in str(caught.value)
