"""Prometheus exporter for BorgBase."""

__version__ = "0.1.0"
