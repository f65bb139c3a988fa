"""The trained project of the end-to-end tests serves here too."""

from tests.e2e.conftest import live, trained

__all__ = ["live", "trained"]
