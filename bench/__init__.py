"""Benchmarks: figures of the documentation, measured."""
