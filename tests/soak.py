"""Tests that take minutes: ``make soak`` runs them, ``make test`` does not."""

import os

import pytest

long = pytest.mark.skipif("SOAK" not in os.environ, reason="takes minutes: make soak")
