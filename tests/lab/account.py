"""A small account that is well: what the API answers to each of the exporter's queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tests.lab.wire import Script, Wire

MEGABYTE = 1_000_000

REPO = {
    "id": "a1b2c3d4",
    "name": "laptop",
    "currentUsage": 1.0,
    "quota": 50_000,
    "quotaEnabled": True,
    "alertDays": 2,
    "lastModified": "2024-02-03T04:05:06.123456+00:00",
    "createdAt": "2023-02-03T04:05:06+00:00",
    "appendOnly": False,
    "compactionEnabled": True,
    "sftpEnabled": False,
    "fullAccessKeys": ["1", "2"],
    "appendOnlyKeys": [],
    "rsyncKeys": None,
    "region": "eu",
    "format": "borg1",
    "borgVersion": "V_1_4_X",
    "encryption": "repokey-blake2",
    "accessMode": "full",
    "server": {"hostname": "a1b2c3d4.repo.example"},
}


def answers(usage: float) -> dict[str, dict[str, Any]]:
    """Return the data of each query, the one repo using so many megabytes."""
    return {
        "Repos": {"isAuthenticated": True, "repoList": [{**REPO, "currentUsage": usage}]},
        "Account": {
            "isAuthenticated": True,
            "me": {
                "activePlan": {
                    "name": "Small",
                    "maxRepos": 10,
                    "maxSizeGb": 0,
                    "includedGb": 250,
                },
                "currentSubscription": {"endDate": "2030-01-01T00:00:00Z", "active": True},
                "autoRenew": False,
                "diskUsage": usage,
                "repoCount": 1,
            },
            "overageList": [{"date": "2024-02-03", "usedGb": 12.5, "excessGb": 0}],
            "accruedOverage": 1.25,
        },
        "SSHKeys": {
            "isAuthenticated": True,
            "sshList": [
                {"id": "1", "name": "key", "addedAt": "2023-01-01T00:00:00Z", "lastUsedAt": None}
            ],
        },
        "Tokens": {
            "isAuthenticated": True,
            "me": {
                "jwttokenSet": [
                    {
                        "id": "7",
                        "name": "exporter",
                        "permission": "RO",
                        "lastUsed": "2024-02-03T04:05:06Z",
                        "expiration": None,
                    }
                ]
            },
        },
    }


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return an HTTP answer."""
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def bodies(usage: float, **changes: Any) -> dict[str, bytes]:
    """Return the body of each answer; `changes` replaces root fields of the data."""
    return {
        name: msgspec.json.encode(
            {"data": {key: changes.get(key, value) for key, value in data.items()}}
        )
        for name, data in answers(usage).items()
    }


Reply = Callable[[Wire, bytes], None]


def _plainly(wire: Wire, body: bytes) -> None:
    wire.send(http(body))


def api(by_name: Mapping[str, bytes], reply: Reply = _plainly) -> Script:
    """Return a server that answers each query by its name."""

    def script(wire: Wire) -> None:
        while request := wire.request():
            reply(wire, by_name[request.name])

    return script
