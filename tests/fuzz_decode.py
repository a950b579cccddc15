"""Feed the client and the areas with nonsense for as long as one likes.

`python -m tests.fuzz_decode --seconds 60`; exit status 1 with the seed at the first defect.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
import traceback

from tests.api.test_properties import test_any_answer_is_endured, test_any_names_make_a_round_trip
from tests.canary import masked

TARGETS = (test_any_answer_is_endured, test_any_names_make_a_round_trip)
LARGEST = 8192
"""Bytes of chance for an example; what is left over does no harm."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    given = parser.parse_args()
    logging.disable()  # thousands of failures
    chance = random.Random(given.seed)  # noqa: S311  # has to be repeatable
    ends, tried, valid = time.monotonic() + given.seconds, 0, 0
    while time.monotonic() < ends:
        buffer = chance.randbytes(chance.randrange(LARGEST))
        for target in TARGETS:
            tried += 1
            try:
                valid += target.hypothesis.fuzz_one_input(buffer) is not None  # type: ignore[attr-defined]  # Hypothesis puts it there
            except Exception:  # noqa: BLE001  # that is what is looked for
                sys.stderr.write(masked(traceback.format_exc()))
                sys.stderr.write(f"after {tried} examples of --seed {given.seed}\n")
                return 1
    sys.stdout.write(f"{tried} examples, {valid} of them valid, no defect\n")
    return 0 if valid else 1


if __name__ == "__main__":
    sys.exit(main())
