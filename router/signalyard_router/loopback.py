"""Which hosts nobody reaches from outside."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether what listens at a host is for this machine alone. Of names, localhost is known."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
