"""The shape of answers, which holds nothing that is the account's."""

from __future__ import annotations

from borgbase_exporter.findings.shape import of_answer, of_error

QUERY = (
    "query Q { isAuthenticated repoList { id name quota format lastModified server { hostname } } }"
)
DATA = {
    "isAuthenticated": True,
    "repoList": [
        {
            "id": 123456,
            "name": "secret-project",
            "quota": 100000,
            "format": "borg2",
            "lastModified": "2024-02-03T04:05:06+00:00",
            "server": {"hostname": "box-x1.example.org"},
            "me@example.org": "unasked",
        },
        {"id": "abc", "name": "x", "quota": 2.5, "format": "me@home", "lastModified": None},
        None,
    ],
}


def test_types_ranges_and_lengths_without_content() -> None:
    assert of_answer(DATA, QUERY) == {
        "isAuthenticated": "1 boolean",
        "repoList": "1 list, length 3 to 3",
        "repoList[]": "2 object, 1 null",
        "repoList[].id": "1 integer, 1 string, length 3 to 3",
        "repoList[].name": "2 string, length 1 to 14",
        "repoList[].quota": "1 integer, 1 number, 2.5 to 100000",
        "repoList[].format": "2 string, length 5 to 7, 1 borg2, 1 (other)",
        "repoList[].lastModified": "1 string, 1 null, length 25 to 25, 1 9999-99-99T99:99:99+99:99",
        "repoList[].server": "1 object",
        "repoList[].server.hostname": "1 string, length 18 to 18",
        "repoList[].(other)": "1 string, length 7 to 7",
    }


def test_errors_keep_the_words_of_queries() -> None:
    message = "Cannot query field 'quota' on type 'RepoType' of anna@example.org, 10.0.0.7"
    shown = of_error(message, [QUERY, "RepoType.id"])
    assert shown == "… query … 'quota' … … 'RepoType' … …@….…, ….….….…"
