"""The versions that figures depend on."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("esper-grow", "torch", "numpy", "msgspec", "anyio", "mnist1d", "opentelemetry-sdk")


def versions() -> dict[str, str]:
    """Python's and the packages' versions, by name."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
