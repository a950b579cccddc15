"""The HTTP side: pages for Prometheus, for probes and for people."""
