"""What the address of a service says about who is on the way to it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

_SOCKETS: Final = ("unix:", "unix-abstract:")
#: What gRPC allows before a host.
_SCHEMES: Final = ("dns:", "ipv4:", "ipv6:")


def is_local(address: str) -> bool:
    """Return whether an address stays on this machine: `localhost`, a loopback address, or a Unix socket.

    Args:
        address: `host:port` or `unix:/path`, as servers bind and clients dial it.
    """
    if address.startswith(_SOCKETS):
        return True
    for scheme in _SCHEMES:
        address = address.removeprefix(scheme)
    address = address.rpartition("/")[2]
    host = (address.rpartition(":")[0] or address) if address.count(":") == 1 or "]" in address else address
    host = host.strip("[]")
    if host.lower() == "localhost":
        return True
    try:
        found = ip_address(host)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback
