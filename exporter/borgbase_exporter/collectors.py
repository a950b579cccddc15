"""The four areas of the API: each a document and its decoder, failing apart from the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from borgbase_exporter.api import decode
from borgbase_exporter.api.client import Answer, Client
from borgbase_exporter.api.documents import ACCOUNT, REPOS, SSH_KEYS, TOKENS, Document
from borgbase_exporter.errors import GraphQLError, PollError
from borgbase_exporter.model import Part


@dataclass(frozen=True, slots=True)
class Collected:
    """What one query brought: a part, and what was wrong with it all the same.

    `error` is set when the API reported errors beside the data, `whole` unless they cost a root
    field. `gaps` are the fields that the API does not have, `missing` those to leave out next time.
    """

    part: Part
    skipped: int
    error: PollError | None
    whole: bool
    gaps: frozenset[str]
    missing: frozenset[str]


@dataclass(frozen=True, slots=True)
class Collector:
    """One area of the API."""

    name: str
    help: str
    document: Document
    decode: Callable[[Answer], tuple[Part, int]]

    def collect(self, client: Client, missing: frozenset[str], *, reserve: float) -> Collected:
        """Ask and decode, leaving out the `missing` fields and `reserve` seconds of the poll.

        Raises a PollError when there is nothing to show.
        """
        answer = client.run(self.document, missing, reserve=reserve)
        part, skipped = self.decode(answer)
        return Collected(
            part,
            skipped,
            error=GraphQLError(answer.said) if answer.errors else None,
            whole=not answer.errors or not answer.lost,
            gaps=self.document.gaps(answer.missing),
            missing=frozenset() if answer.guessed else answer.missing,
        )


COLLECTORS: tuple[Collector, ...] = (
    Collector("repos", "the repos, their usage, quotas and settings", REPOS, decode.repos),
    Collector("account", "plan, subscription and billed usage", ACCOUNT, decode.account),
    Collector("ssh_keys", "the account's SSH keys", SSH_KEYS, decode.ssh_keys),
    Collector("tokens", "the account's API tokens and when they expire", TOKENS, decode.tokens),
)
