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
    """Return the data of each query; the only repo uses this many megabytes."""
    me = {
        "activePlan": {"name": "Small", "maxRepos": 10, "maxSizeGb": 0, "includedGb": 250},
        "currentSubscription": {"endDate": "2030-01-01T00:00:00Z", "active": True},
        "autoRenew": False,
        "diskUsage": usage,
        "repoCount": 1,
    }
    overage = {"date": "2024-02-03", "usedGb": 12.5, "excessGb": 0}
    key = {"id": "1", "name": "key", "addedAt": "2023-01-01T00:00:00Z", "lastUsedAt": None}
    token = {"id": "7", "name": "exporter", "permission": "RO", "expiration": None}
    data: dict[str, dict[str, Any]] = {
        "Repos": {"repoList": [{**REPO, "currentUsage": usage}]},
        "Account": {"me": me, "overageList": [overage], "accruedOverage": 1.25},
        "SSHKeys": {"sshList": [key]},
        "Tokens": {"me": {"jwttokenSet": [{**token, "lastUsed": "2024-02-03T04:05:06Z"}]}},
    }
    return {name: {"isAuthenticated": True, **fields} for name, fields in data.items()}


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return an HTTP answer."""
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def bodies(usage: float) -> dict[str, bytes]:
    """Return the body of each answer."""
    return {name: msgspec.json.encode({"data": data}) for name, data in answers(usage).items()}


Reply = Callable[[Wire, bytes], None]


def api(
    by_name: Mapping[str, bytes], reply: Reply = lambda wire, body: wire.send(http(body))
) -> Script:
    """Return a server that answers each query by its name."""

    def script(wire: Wire) -> None:
        while request := wire.request():
            reply(wire, by_name[request.name])

    return script
