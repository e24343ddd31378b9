"""API keys: random texts of which the service knows the hashes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final

import yaml

from tasker.rpc.credentials.refusals import CredentialRefusedError, Granting
from tasker.rpc.key_files import KeyFileError
from tasker.rpc.permissions import Caller

_PREFIX: Final = "sha256:"
_HASH: Final = re.compile(r"sha256:([0-9a-fA-F]{64})")
_FIELDS: Final = frozenset({"key", "permissions", "description"})
_FORM: Final = "a list of {key: 'sha256:...', permissions: [...], description: ...}"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that is accepted.

    Attributes:
        digest: SHA-256 of the key.
        permissions: What it grants.
        description: Whose it is; names the caller.
    """

    digest: bytes
    permissions: frozenset[str]
    description: str


class ApiKeys:
    """The keys that are accepted."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def verify(self, presented: str) -> Caller:
        """Return whose a key is; takes as long whichever it is.

        Raises:
            CredentialRefusedError: It is none of ours.
        """
        digest = sha256(presented.encode("utf-8", "surrogatepass")).digest()
        found: ApiKey | None = None
        for key in self._keys:  # all of them, so that time tells nothing
            if compare_digest(key.digest, digest):
                found = key
        if found is None:
            raise CredentialRefusedError("invalid", "the API key is none of those that are accepted")
        return Caller(found.description, "api_key", found.permissions)


def hash_key(key: str) -> str:
    """Return what is stored of a key."""
    return _PREFIX + sha256(key.encode()).hexdigest()


def parse_api_keys(text: bytes, *, source: str, granting: Granting, may_be_none: bool = False) -> ApiKeys:
    """Return the keys that a text in YAML or JSON lists.

    Args:
        text: The list.
        source: Where it stands, for messages.
        granting: What becomes of texts that are no permission. A bare `*` is refused in any case.
        may_be_none: Take the empty list for what it says; a file without any text is still a mistake.

    Raises:
        KeyFileError: Something is wrong with it; the message says which entry, and shows no key.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise KeyFileError(source, f"is neither YAML nor JSON{where}; it must be {_FORM}") from None
    if not isinstance(document, list) or not (document or may_be_none):
        raise KeyFileError(source, f"lists no keys; it must be {_FORM}")
    keys = [_key(entry, f"{source}, key {number}", granting) for number, entry in enumerate(document, 1)]
    if len({key.digest for key in keys}) < len(keys):
        raise KeyFileError(source, "lists a key twice; leave one of the two out")
    return ApiKeys(keys)


def _key(entry: Any, source: str, granting: Granting) -> ApiKey:
    if not isinstance(entry, dict) or not set(entry) <= _FIELDS:
        raise KeyFileError(source, "must have key, permissions and description, and nothing else")
    hashed = entry.get("key")
    found = _HASH.fullmatch(hashed) if isinstance(hashed, str) else None
    if found is None:
        raise KeyFileError(
            source,
            "key must be sha256: and 64 hexadecimal digits; `tasker auth hash-key` makes that of a key",
        )
    permissions = entry.get("permissions")
    if not isinstance(permissions, list) or not all(isinstance(one, str) for one in permissions):
        raise KeyFileError(source, "permissions must be a list of texts such as tasks:create or tasks:*")
    if "*" in permissions:
        raise KeyFileError(source, "'*' is no permission; name those of each resource, such as tasks:*")
    description = entry.get("description")
    if not isinstance(description, str) or not description.strip():
        raise KeyFileError(source, "description must say whose key it is")
    try:
        known = granting.known(permissions, subject=description)
    except CredentialRefusedError as error:
        raise KeyFileError(source, error.detail) from None
    return ApiKey(bytes.fromhex(found[1]), known, description.strip())
