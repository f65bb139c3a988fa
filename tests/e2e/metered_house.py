"""Reading /metrics in tests."""

from prometheus_client.parser import text_string_to_metric_families as parse
from tests.e2e.worker_house import call


def scrape(port):
    """Every sample by name and labels."""
    status, _, text = call(port, "GET", "/metrics")
    assert status == 200, text
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse(text.decode())
        for sample in family.samples
    }


def total(found, name, **labels):
    """The sum over all series of a name that have these labels."""
    return sum(value for key, value in found.items() if key[0] == name and labels.items() <= dict(key[1:]).items())
