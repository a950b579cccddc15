"""The exporter's speed compared with other servers of the same series, in one run.

`python -m bench` starts each contender as a process on loopback, asks them in turns, and prints
what it measured; nothing here passes or fails. `figures` is the arithmetic, `client` asks and keeps
time, `contenders` starts the processes (`answers` and `stock` are two of them), `trials` are the
experiments. `python -m bench.soak` and `python -m bench.backfill` are measurements of their own.
"""
