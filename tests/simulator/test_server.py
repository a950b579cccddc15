import base64
import gzip
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from borgbase_exporter.simulator import SimulatedAccount, SimulatedApi
from borgbase_exporter.simulator.curves import DAY
from tests.simulator.asking import START, Clock, seconds

DENIED = "You do not have permission to perform this action"
LISTS = "{ isAuthenticated repoList { name } sshList { name } me { autoRenew } accruedOverage }"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account(clock: Clock) -> SimulatedAccount:
    return SimulatedAccount(clock=clock)


@pytest.fixture
def api(account: SimulatedAccount) -> Iterator[SimulatedApi]:
    with SimulatedApi([account]) as api:
        yield api


def _post(api: SimulatedApi, token: str | None, query: str, **more: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return requests.post(api.url, json={"query": query, **more}, headers=headers, timeout=5)


def _answer(api: SimulatedApi, token: str | None, query: str, **more: Any) -> dict[str, Any]:
    response = _post(api, token, query, **more)
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


def _names(api: SimulatedApi, token: str) -> list[str]:
    answer = _answer(api, token, "{ repoList { name } }")
    return [repo["name"] for repo in answer["data"]["repoList"]]


def test_a_query_is_answered(api: SimulatedApi, account: SimulatedAccount) -> None:
    answer = _answer(api, account.token, LISTS)

    assert "errors" not in answer
    assert answer["data"]["isAuthenticated"] is True
    assert answer["data"]["repoList"][0] == {"name": "laptop-anna"}


def test_variables_and_operation_names(api: SimulatedApi, account: SimulatedAccount) -> None:
    query = "query One($n: String) { repoList(name: $n) { name } } query Two { accruedOverage }"
    answer = _answer(api, account.token, query, variables={"n": "gitea"}, operationName="One")

    assert answer == {"data": {"repoList": [{"name": "gitea"}]}}


@pytest.mark.parametrize("kind", ["none", "empty", "unknown", "expired", "revoked"])
def test_without_a_valid_token_nothing_is_told(
    api: SimulatedApi, account: SimulatedAccount, kind: str
) -> None:
    revoked = account.add_token("passing", "FA")
    account.revoke(revoked)
    (expired,) = (key for key, it in account.tokens.items() if it.name == "old-dashboard")
    tokens = {"empty": "", "unknown": "a.b.c", "expired": expired, "revoked": revoked}
    answer = _answer(api, tokens.get(kind), LISTS)

    fields = ["repoList", "sshList", "me", "accruedOverage"]
    assert answer["data"] == {"isAuthenticated": False} | dict.fromkeys(fields)
    assert [error["path"] for error in answer["errors"]] == [[field] for field in fields]
    assert {error["message"] for error in answer["errors"]} == {DENIED}


@pytest.mark.parametrize("permission", ["RO", "FA"])
def test_read_and_full_access_tell_all(
    api: SimulatedApi, account: SimulatedAccount, permission: str
) -> None:
    assert "errors" not in _answer(api, account.add_token("new", permission), LISTS)


def test_create_only_tells_repos_and_keys(api: SimulatedApi, account: SimulatedAccount) -> None:
    answer = _answer(api, account.add_token("new", "CO"), LISTS)

    assert answer["data"]["isAuthenticated"] is True
    assert answer["data"]["repoList"]
    assert answer["data"]["sshList"]
    assert answer["data"]["me"] is None
    assert [error["path"] for error in answer["errors"]] == [["me"], ["accruedOverage"]]


def test_the_token_tells_its_expiration(api: SimulatedApi, account: SimulatedAccount) -> None:
    head, payload, signature = account.token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    query = "{ me { jwttokenSet { id name expiration } } }"
    tokens = _answer(api, account.token, query)["data"]["me"]["jwttokenSet"]

    assert head
    assert signature
    (own,) = (token for token in tokens if token["name"] == "exporter")
    assert claims["exp"] == seconds(own["expiration"])


def test_a_token_is_valid_until_it_expires(
    api: SimulatedApi, account: SimulatedAccount, clock: Clock
) -> None:
    token = account.add_token("short", "RO", expires=START + DAY)
    clock.now = START + DAY - 1
    assert _names(api, token)
    clock.now = START + DAY
    assert _answer(api, token, "{ isAuthenticated }")["data"] == {"isAuthenticated": False}


def test_the_token_selects_the_account(clock: Clock) -> None:
    one, two = (SimulatedAccount(seed=seed, clock=clock, repos=seed) for seed in (1, 2))
    with SimulatedApi([one, two]) as api:
        assert [len(_names(api, account.token)) for account in (one, two)] == [1, 2]


def test_accounts_need_tokens_of_their_own(clock: Clock) -> None:
    with pytest.raises(ValueError, match="its own seed"):
        SimulatedApi([SimulatedAccount(clock=clock), SimulatedAccount(clock=clock)])
    with pytest.raises(ValueError, match="at least one account"):
        SimulatedApi([])


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ("{ repoList { id", ["Syntax Error"]),
        ("{ repoList { idd } nothing }", ["Cannot query field 'idd'", "Cannot query field 'noth"]),
        ("{ repo { id } }", ["of type 'String!' is required"]),
        ("mutation { repoDelete }", ["mutation"]),
        ("query A { accruedOverage } query B { accruedOverage }", ["Must provide operation name"]),
    ],
)
def test_what_cannot_be_executed_is_a_bad_request(
    api: SimulatedApi, account: SimulatedAccount, query: str, messages: list[str]
) -> None:
    response = _post(api, account.token, query)
    answer = response.json()

    assert response.status_code == 400
    assert "data" not in answer
    for message, error in zip(messages, answer["errors"], strict=True):
        assert message in error["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"query": 1}', b'{"query": "{a}", "variables": 1}', b"\xff"]
)
def test_a_body_that_is_no_request_is_a_bad_request(api: SimulatedApi, body: bytes) -> None:
    response = requests.post(api.url, data=body, timeout=5)

    assert response.status_code == 400
    assert response.json()["errors"]
    assert api.requests == []


def test_other_methods_and_paths(api: SimulatedApi) -> None:
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"):
        response = requests.request(method, api.url, timeout=5)
        assert (response.status_code, response.headers["Allow"]) == (405, "POST")
        assert requests.request(method, api.url + "/x", timeout=5).status_code == 404
    assert requests.post(api.url.replace("graphql", ""), data=b"x", timeout=5).status_code == 404


def test_gzip_for_those_who_accept_it(api: SimulatedApi, account: SimulatedAccount) -> None:
    headers = {"Authorization": f"Bearer {account.token}"}
    body = {"query": LISTS}
    bodies = {}
    for encoding in ("gzip", "identity"):
        with requests.post(
            api.url,
            json=body,
            headers=headers | {"Accept-Encoding": encoding},
            stream=True,
            timeout=5,
        ) as response:
            bodies[encoding] = response.raw.read(decode_content=False)
            assert response.headers.get("Content-Encoding", "identity") == encoding

    assert gzip.decompress(bodies["gzip"]) == bodies["identity"]


def test_requests_are_recorded_without_secrets(
    api: SimulatedApi, account: SimulatedAccount, clock: Clock
) -> None:
    _answer(api, account.token, "query Repos { repoList { id } }")
    clock.forward(1)
    _answer(api, "x.y.z", "{ accruedOverage }")

    named, unnamed = api.requests
    assert (named.operation, named.token, named.time) == ("Repos", "exporter", START)
    assert (unnamed.operation, unnamed.token, unnamed.time) == (None, None, START + DAY)
    assert unnamed.query == "{ accruedOverage }"
    assert account.token not in repr(api.requests)
    assert "x.y.z" not in repr(api.requests)


def test_missing_fields_fail_the_query(account: SimulatedAccount) -> None:
    without = {"RepoType.sftpEnabled", "Query.accruedOverage"}
    with SimulatedApi([account], without=without) as api:
        query = "{ repoList { id sftpEnabled } accruedOverage }"
        response = _post(api, account.token, query)
        messages = [error["message"] for error in response.json()["errors"]]
        rest = "{ isAuthenticated repoList { id } }"
        assert "errors" not in _answer(api, account.token, rest)

    assert response.status_code == 400
    assert messages[0].startswith("Cannot query field 'sftpEnabled' on type 'RepoType'.")
    assert messages[1].startswith("Cannot query field 'accruedOverage' on type 'Query'.")


def test_plan_sizes_can_be_renamed_to_gb(account: SimulatedAccount) -> None:
    renamed = {"PlanType.maxSize": "maxSizeGb", "PlanType.includedSize": "includedGb"}
    with SimulatedApi([account]) as old, SimulatedApi([account], renamed=renamed) as new:
        mb = _answer(old, account.token, "{ planList { max: maxSize in: includedSize } }")
        gb = _answer(new, account.token, "{ planList { max: maxSizeGb in: includedGb } }")
        assert _post(new, account.token, "{ planList { maxSize } }").status_code == 400

    for before, after in zip(mb["data"]["planList"], gb["data"]["planList"], strict=True):
        assert before["in"] == 1000 * after["in"]
        assert before["max"] == (after["max"] and 1000 * after["max"])


def test_the_schema_drifts_while_running(api: SimulatedApi, account: SimulatedAccount) -> None:
    query = "{ repoList { id format } }"
    whole = _answer(api, account.token, query)
    api.drop_field("RepoType.format")
    assert _post(api, account.token, query).status_code == 400
    api.restore_field("RepoType.format")
    assert _answer(api, account.token, query) == whole
    with pytest.raises(ValueError, match=r"RepoType\.nothing"):
        api.drop_field("RepoType.nothing")


def test_a_root_resolver_breaks_alone(api: SimulatedApi, account: SimulatedAccount) -> None:
    query = "{ repoList { id } overageList { date } }"
    whole = _answer(api, account.token, query)
    api.break_resolver("Query.overageList")
    answer = _answer(api, account.token, query)
    assert answer["data"] == whole["data"] | {"overageList": None}
    assert [error["path"] for error in answer["errors"]] == [["overageList"]]
    api.mend_resolver("Query.overageList")
    assert _answer(api, account.token, query) == whole


def test_a_nested_resolver_breaks_its_parents(api: SimulatedApi, account: SimulatedAccount) -> None:
    api.break_resolver("RepoType.server")
    answer = _answer(api, account.token, "{ repoList { id server { id } } }")

    assert answer["data"]["repoList"] == [None] * 12
    assert answer["errors"][3]["path"] == ["repoList", 3, "server"]


def test_an_unknown_repo_is_an_error(api: SimulatedApi, account: SimulatedAccount) -> None:
    answer = _answer(api, account.token, '{ repo(repoId: "none") { id } }')

    assert answer["data"] == {"repo": None}
    assert answer["errors"][0]["message"] == "Repo matching query does not exist."


def test_entries_can_be_null(api: SimulatedApi, account: SimulatedAccount) -> None:
    query = "{ repoList { id } sshList { id } }"
    whole = _answer(api, account.token, query)["data"]
    api.null_entries("repoList", {0, 5, 99})
    answer = _answer(api, account.token, query)
    assert [n for n, repo in enumerate(answer["data"]["repoList"]) if repo is None] == [0, 5]
    assert answer["data"]["sshList"] == whole["sshList"]
    assert "errors" not in answer
    api.null_entries("repoList", ())
    assert _answer(api, account.token, query)["data"] == whole


def test_answers_kept_are_never_stale(
    api: SimulatedApi, account: SimulatedAccount, clock: Clock
) -> None:
    query = "{ repoList { name currentUsage } }"
    first = _answer(api, account.token, query)
    assert _answer(api, account.token, query) == first
    account.rename(account.repos[0].id, "renamed")
    second = _answer(api, account.token, query)
    assert second != first
    clock.forward(1)
    third = _answer(api, account.token, query)
    assert third != second
    for number in range(20):  # more than are kept
        _answer(api, account.token, f"query Q{number} {{ isAuthenticated }}")
    assert _answer(api, account.token, query) == third


def test_many_clients_at_once(api: SimulatedApi, account: SimulatedAccount) -> None:
    answers: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(_names(api, account.token)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    account.add_repo("meanwhile")
    for thread in threads:
        thread.join()

    assert len(answers) == len(api.requests) == 20
    assert {len(names) for names in answers} <= {12, 13}


def test_a_stop_cuts_connections_and_a_start_brings_them_back(
    api: SimulatedApi, account: SimulatedAccount
) -> None:
    url = api.url
    with requests.Session() as session:
        for _ in range(2):
            assert session.post(url, json={"query": "{ isAuthenticated }"}, timeout=5).ok
        api.stop()
        with pytest.raises(requests.ConnectionError):
            session.post(url, json={"query": "{ isAuthenticated }"}, timeout=5)
        api.start()
        api.start()
        assert api.url == url
        assert session.post(url, json={"query": "{ isAuthenticated }"}, timeout=5).ok
