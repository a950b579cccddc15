"""The GraphQL server: queries are executed by graphql-core, and the schema drifts on request."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from typing import Any

from borgbase_exporter.demo import SimulatedAccount, SimulatedApi
from borgbase_exporter.demo.answers import DENIED, JSON, Moment
from tests.graphql.schema import Drift, Edition

_ALLOWED: dict[str | None, Collection[str]] = {None: (), "CO": ("repoList", "sshList")}


class GraphQLApi(SimulatedApi):
    """Like SimulatedApi, but for any query."""

    def __init__(self, accounts: Sequence[SimulatedAccount]) -> None:
        super().__init__(accounts)
        self._edition = Edition()

    def stop(self) -> None:
        """Stop listening."""
        self.__exit__()

    def start(self) -> None:
        """Listen again, on the same port."""
        socketserver.TCPServer.__init__(self, self.server_address, self.RequestHandlerClass)  # type: ignore[arg-type]  # of Self
        self.__enter__()

    def drop_field(self, field: str) -> None:
        """Remove a field, such as `RepoType.quota`, from the schema."""
        self._edition = Edition(Drift(without=frozenset({field})))

    def reply(self, body: bytes, secret: str) -> tuple[int, JSON]:
        """Answer a request with an HTTP status and JSON."""
        query = json.loads(body)["query"]
        account, token = self.authenticate(secret)
        moment = account.moment()
        answer = self._edition.execute(query, root(moment, token.permission if token else None))
        return (HTTPStatus.OK if "data" in answer else HTTPStatus.BAD_REQUEST), answer


def root(moment: Moment, permission: str | None) -> JSON:
    """Return the resolvers of the root fields that a token's permission (or none) allows."""
    answers: dict[str, Callable[..., Any]] = {
        "repoList": moment.repo_list,
        "repoUsageList": moment.usage,
        "sshList": moment.ssh_list,
        "me": lambda: moment.me() | {"jwttokenSet": moment.api_tokens()},
        "overageList": moment.bill,
        "accruedOverage": moment.accrued_overage,
    }
    allowed = _ALLOWED.get(permission, answers)
    return {"isAuthenticated": permission is not None} | {
        field: _resolver(answer if field in allowed else _deny) for field, answer in answers.items()
    }


def _resolver(answer: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _info, **arguments: answer(**arguments)


def _deny(**_arguments: Any) -> None:
    raise PermissionError(DENIED)
