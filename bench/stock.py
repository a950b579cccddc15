"""prometheus_client's own server, with a Gauge for each family of an exposition.

`python -m bench.stock PORT FILE`
"""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event

from prometheus_client import CollectorRegistry, Gauge, start_http_server
from prometheus_client.parser import text_string_to_metric_families


def filled(text: str) -> CollectorRegistry:
    """Return a registry with the series of an exposition."""
    registry = CollectorRegistry()
    for family in text_string_to_metric_families(text):
        if family.samples:
            first = family.samples[0]
            gauge = Gauge(first.name, family.documentation, list(first.labels), registry=registry)
            for sample in family.samples:
                gauge.labels(**sample.labels).set(sample.value)
    return registry


if __name__ == "__main__":
    start_http_server(int(sys.argv[1]), "127.0.0.1", filled(Path(sys.argv[2]).read_text()))
    Event().wait()
