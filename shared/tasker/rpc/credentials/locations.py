"""Where a key set may be fetched from: a public host, over HTTPS, unless the settings say otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import ClassVar
from urllib.parse import urlsplit

from tasker.domain.errors import TaskerError


class KeySetError(TaskerError):
    """A key set cannot be fetched, or its URL is not one to fetch it from."""

    reason: ClassVar[str] = "KEY_SET_UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class KeySetLocation:
    """Where a key set is published.

    Attributes:
        url: Its URL.
        allow_http: Whether it may be http, and whether the host may be this machine: for development.
        allow_private: Whether the host may have an address of a private network.
    """

    url: str
    allow_http: bool = False
    allow_private: bool = False

    def check(self) -> None:
        """Refuse a URL that could never be fetched.

        Raises:
            KeySetError: It could not.
        """
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise KeySetError("the URL of the key set is malformed") from None
        if parts.scheme not in ("https", "http") or not host:
            raise KeySetError("the URL of the key set must be https://HOST/PATH")
        if parts.scheme == "http" and not self.allow_http:
            raise KeySetError("the URL of the key set must be https: keys fetched over http prove nothing")
        if parts.username or parts.password:
            raise KeySetError("the URL of the key set must hold no user and no password")
        try:
            literal = ip_address(host)
        except ValueError:
            return  # a name: its addresses are looked at whenever it is connected to
        self.check_address(literal)

    def check_address(self, address: IPv4Address | IPv6Address) -> None:
        """Refuse an address that a key set may not come from.

        Raises:
            KeySetError: It is one.
        """
        plain = getattr(address, "ipv4_mapped", None) or address
        if plain.is_loopback:
            allowed, remedy = self.allow_http, "TASKER_JWKS_ALLOW_HTTP allows it for development"
        elif plain.is_link_local or plain.is_multicast or plain.is_unspecified:
            allowed, remedy = False, "nothing allows it"
        elif not plain.is_global:
            allowed, remedy = self.allow_private, "TASKER_JWKS_ALLOW_PRIVATE_HOSTS allows it"
        else:
            return
        if not allowed:
            raise KeySetError(
                f"the host of the key set has the address {address}, which is not public; {remedy}"
            )
