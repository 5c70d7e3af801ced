"""The transport for an address. The library behind it is imported late: whoever moves no bundle needs none."""

from signalyard.problems import Problem, error
from signalyard_runtimes.remote.address import Address
from signalyard_runtimes.remote.transport import Transport


def open_transport(address: Address) -> Transport:
    """Raises CallerError (invalid_setting) where the library is missing, or the environment does not fit the address."""
    try:
        if address.scheme == "oci":
            from signalyard_runtimes.remote.registry import RegistryTransport

            return RegistryTransport(address)
        from signalyard_runtimes.remote.objects import ObjectTransport

        return ObjectTransport(address)
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("signalyard"):
            raise
        raise error(
            Problem.INVALID_SETTING,
            f"{address.scheme}:// needs the package {exc.name!r}: install signalyard[bundles]",
            "/uri",
        ) from exc
