"""The metrics: what there is, and how it is written for Prometheus."""
