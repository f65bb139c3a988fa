"""Conformance suites, one per port, so that any adapter can prove itself; and fakes in memory for tests.

A suite is a pytest class with one method to fill in::

    from trimtab.testing.blobs import BlobsConformance

    class TestMyBlobs(BlobsConformance):
        def make(self, place):
            return MyBlobs(place)

The suites need pytest. :mod:`trimtab.testing.memory` and :mod:`trimtab.testing.jobs` do not.
"""
