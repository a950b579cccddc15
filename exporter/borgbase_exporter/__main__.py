"""`python -m borgbase_exporter` and the command `borgbase-exporter`."""

import sys

from borgbase_exporter.cli import run

if __name__ == "__main__":
    sys.exit(run())
