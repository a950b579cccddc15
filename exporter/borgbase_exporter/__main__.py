"""`python -m borgbase_exporter` and the command `borgbase-exporter`."""

import os
import signal
import sys

ONE_SHOT = {"check", "textfile", "backfill"}


def run() -> int:
    """Run the program with its command-line arguments; return its exit status."""
    # Before the imports, which take a while: without handlers, SIGHUP would end the process, and
    # the first process of a container would ignore SIGTERM.
    if not ONE_SHOT & set(sys.argv):
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGHUP, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from borgbase_exporter.commands.main import main  # noqa: PLC0415

    return main(sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(run())
