"""What the settings of security refuse, and what becomes of those that are good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasker.config.settings import OrchestrationSettings, SettingsError, WorkerSettings
from tasker.rpc.credentials.api_keys import hash_key
from tasker.rpc.credentials.locations import KeySetError
from tasker.rpc.key_files import KeyFileError
from tasker.rpc.security import OPEN, security_of
from tests.support.credentials import ec_key, private_pem, public_pem, rsa_key

HASH = hash_key("of the tests")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of ours is set, save the database."""
    for name in [name for name in os.environ if name.startswith("TASKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere/none")


def key_list(**changes: Any) -> str:
    entry = {"key": HASH, "permissions": ["tasks:read"], "description": "billing"}
    return json.dumps([{name: value for name, value in (entry | changes).items() if value is not None}])


def test_services_are_open_and_on_this_machine_alone_by_default() -> None:
    for settings, port in ((OrchestrationSettings.load(), 9190), (WorkerSettings.load(), 9191)):
        assert settings.bind_address == f"127.0.0.1:{port}"
        assert security_of(settings) == OPEN
        assert settings.reflection_enabled


@pytest.mark.parametrize("kind", [OrchestrationSettings, WorkerSettings])
def test_all_of_it_comes_from_the_environment(
    kind: type[OrchestrationSettings | WorkerSettings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "TASKER_AUTH_ENABLED": "true",
        "TASKER_AUTH_STRICT_PERMISSIONS": "false",
        "TASKER_ENFORCE_CONTEXT_READ": "false",
        "TASKER_JWT_PUBLIC_KEY": public_pem(rsa_key()).decode().replace("\n", "\\n"),
        "TASKER_JWT_ISSUER": "us",
        "TASKER_JWT_AUDIENCE": "ours",
        "TASKER_JWT_ALGORITHMS": "RS256, PS256",
        "TASKER_JWT_LEEWAY_SECONDS": "5",
        "TASKER_JWT_PERMISSIONS_CLAIM": "scp",
        "TASKER_API_KEYS": key_list(),
        "TASKER_API_KEY_HEADER": "X-Own",
        "TASKER_REFLECTION_ENABLED": "false",
    }.items():
        monkeypatch.setenv(name, value)
    settings = kind.load()
    assert settings.jwt_algorithms == ("RS256", "PS256")
    assert (settings.jwt_issuer, settings.jwt_audience, settings.jwt_permissions_claim) == (
        "us",
        "ours",
        "scp",
    )
    assert (settings.strict_permissions, settings.enforce_context_read) == (False, False)
    assert not settings.reflection_enabled
    assert HASH not in repr(settings)
    security = security_of(settings)
    assert security.authenticator is not None
    assert security.api_key_count == 1
    assert security.tls is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"TASKER_AUTH_ENABLED": "true"}, "TASKER_AUTH_ENABLED is true, and nothing tells whom to let in"),
        (
            {"TASKER_JWKS_URL": "https://idp.example.com/keys", "TASKER_JWT_PUBLIC_KEY_PATH": "key.pem"},
            "tokens are verified by one of them",
        ),
        ({"TASKER_JWT_ALGORITHMS": "HS256"}, "TASKER_JWT_ALGORITHMS: "),
        ({"TASKER_JWT_ALGORITHMS": "none"}, "TASKER_JWT_ALGORITHMS: "),
        ({"TASKER_JWT_ALGORITHMS": ","}, "TASKER_JWT_ALGORITHMS: "),
        ({"TASKER_JWT_LEEWAY_SECONDS": "601"}, "TASKER_JWT_LEEWAY_SECONDS: "),
        ({"TASKER_JWKS_REFRESH_SECONDS": "1"}, "TASKER_JWKS_REFRESH_SECONDS: "),
        ({"TASKER_API_KEY_HEADER": "no header"}, "TASKER_API_KEY_HEADER: "),
        ({"TASKER_AUTH_ENABLED": "perhaps"}, "TASKER_AUTH_ENABLED: "),
        ({"TASKER_TLS_ENABLED": "true"}, "TLS needs both TASKER_TLS_CERT_PATH and TASKER_TLS_KEY_PATH"),
        ({"TASKER_TLS_CERT_PATH": "cert.pem"}, "TLS needs both TASKER_TLS_CERT_PATH and TASKER_TLS_KEY_PATH"),
        ({"TASKER_TLS_KEY_PATH": "key.pem"}, "need TASKER_TLS_CERT_PATH beside them"),
        ({"TASKER_TLS_CLIENT_CA_PATH": "ca.pem"}, "need TASKER_TLS_CERT_PATH beside them"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_does_not_go_together_is_said_by_name(
    given: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for kind in (OrchestrationSettings, WorkerSettings):
        with pytest.raises(SettingsError) as caught:
            kind.load()
        assert problem in str(caught.value)


def test_tls_can_be_switched_off_with_its_files_in_place() -> None:
    settings = WorkerSettings.load(tls_enabled=False, tls_cert_path="cert.pem", tls_key_path="key.pem")
    assert security_of(settings).tls is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "is neither YAML nor JSON (line 1)"),
        ("", "lists no keys"),
        ("[]", "lists no keys"),
        ("{}", "lists no keys"),
        ("- tasks:read", "key 1: must have key, permissions and description, and nothing else"),
        (key_list(expires="never"), "key 1: must have key, permissions and description, and nothing else"),
        (key_list(key="a plain key"), "key 1: key must be sha256: and 64 hexadecimal digits; `tasker auth hash-key`"),
        (key_list(key=None), "key 1: key must be sha256:"),
        (key_list(key="sha256:abc"), "key 1: key must be sha256:"),
        (key_list(permissions="tasks:read"), "key 1: permissions must be a list of texts"),
        (key_list(permissions=[7]), "key 1: permissions must be a list of texts"),
        (key_list(permissions=["*"]), "key 1: '*' is no permission"),
        (key_list(permissions=["tasks:fly"]), "key 1: grants what is no permission: 'tasks:fly'"),
        (key_list(description=None), "key 1: description must say whose key it is"),
        (key_list(description=" "), "key 1: description must say whose key it is"),
        (json.dumps(json.loads(key_list()) * 2), "lists a key twice"),
    ],
)  # fmt: skip
def test_a_list_of_keys_that_is_wrong_is_refused_and_not_shown(
    text: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    sources: list[tuple[dict[str, object], str]] = [({"api_keys_file": path}, str(path))]
    if text:  # an empty variable is as good as none
        sources.append(({"api_keys": text}, "TASKER_API_KEYS"))
    for given, source in sources:
        with pytest.raises(KeyFileError) as caught:
            security_of(WorkerSettings.load(auth_enabled=True, **given))
        assert str(caught.value).startswith(source)
        assert problem in str(caught.value)
        assert HASH not in str(caught.value)
        assert "a plain key" not in str(caught.value)


def test_a_bare_star_in_a_key_is_refused_even_if_unknown_permissions_are_not() -> None:
    lenient: dict[str, object] = {"auth_enabled": True, "strict_permissions": False}
    with pytest.raises(KeyFileError, match=r"'\*' is no permission"):
        security_of(WorkerSettings.load(**lenient, api_keys=key_list(permissions=["*"])))
    security = security_of(WorkerSettings.load(**lenient, api_keys=key_list(permissions=["tasks:fly"])))
    assert security.api_key_count == 1


def test_public_keys_that_cannot_be_used_are_refused_by_the_name_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    missing = tmp_path / "missing.pem"
    for content, problem in (
        (b"", "has no PEM block"),
        (b"ssh-rsa AAAA", "has no PEM block"),
        (private_pem(ec_key()), "holds a private key; services need the public one"),
        (public_pem(rsa_key()) + private_pem(ec_key()), "holds a private key"),
        (public_pem(rsa_key("short", 1024)), "an RSA key of 1024 bits is too short; take 2048 or more"),
        (
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "holds a PEM block that is no public key we can use",
        ),
    ):
        path.write_bytes(content)
        with pytest.raises(KeyFileError, match=f"{path}: {problem}"):
            security_of(WorkerSettings.load(auth_enabled=True, jwt_public_key_path=path))
    with pytest.raises(KeyFileError, match=f"{missing}: cannot be read: No such file or directory"):
        security_of(WorkerSettings.load(auth_enabled=True, jwt_public_key_path=missing))
    with pytest.raises(KeyFileError, match="TASKER_JWT_PUBLIC_KEY: has no PEM block"):
        security_of(WorkerSettings.load(auth_enabled=True, jwt_public_key="x"))


def test_a_path_wins_over_a_text(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(public_pem(rsa_key()))
    settings = WorkerSettings.load(auth_enabled=True, jwt_public_key_path=path, jwt_public_key="nonsense")
    assert security_of(settings).authenticator is not None


def test_a_key_set_from_this_machine_is_refused_by_name() -> None:
    with pytest.raises(KeySetError, match="TASKER_JWKS_ALLOW_HTTP allows it for development"):
        security_of(WorkerSettings.load(auth_enabled=True, jwks_url="https://127.0.0.1/keys"))


def test_services_that_ask_nobody_pay_for_nothing() -> None:
    program = "import sys, tasker.orchestration.service, tasker.worker.service; print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100
    )
    assert {"jwt", "cryptography", "httpcore", "anyio"} & set(said.stdout.split()) == set()
