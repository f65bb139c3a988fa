"""The compute suite over child processes."""

import pytest

from trimtab.adapters.compute.processes import ProcessCompute
from trimtab.testing.compute import ComputeConformance


class TestProcesses(ComputeConformance):
    @pytest.fixture(autouse=True)
    def made(self):
        self.computes = []
        yield
        for compute in self.computes:
            compute.close()

    def make(self, place):
        self.computes.append(ProcessCompute(place / "jobs"))
        return self.computes[-1]


class TestWarmProcess(TestProcesses):
    def make(self, place):
        self.computes.append(ProcessCompute(place / "jobs", reuse=True))
        return self.computes[-1]
