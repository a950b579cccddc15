"""The repos of the account: twelve written by hand, any number generated, and their troubles."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil, inf
from typing import Any
from zlib import crc32

from borgbase_exporter.demo.curves import DAY, GB, Curve


class Trouble(StrEnum):
    """What can be wrong with an account; a repo or token whose trouble is left out is well."""

    QUOTA_NEARLY_FULL = "quota-nearly-full"  # postgres-prod uses about 97 % of its quota
    QUOTA_FILLING = "quota-filling"  # mail.example.org has grown for 20 days, 10 remain
    SILENT = "silent"  # gitea last wrote 2.5 times its alertDays before the start
    NEVER_USED = "never-used"  # new-server is 10 days old at the start, and was never written to
    SUBSCRIPTION_ENDING = "subscription-ending"  # 9 days after the start; it is not renewed
    TOKEN_EXPIRING = "token-expiring"  # noqa: S105  # "terraform", 6 days after the start
    OVERAGE = "overage"  # the plan includes 10 % less than what is stored at the start


SERVERS = tuple(
    f"{name}.repo.example"
    for name in ("eu-north-1", "eu-central-7", "us-east-2", "us-west-4", "eu-dedicated-3")
)
LAPTOP, NAS, DEPLOY, YUBIKEY = "311", "402", "577", "698"
SSH_KEYS = {  # id: name, days from its addition to the start
    LAPTOP: ("anna@laptop", 600),
    NAS: ("nas", 720),
    DEPLOY: ("deploy key (all servers)", 650),
    YUBIKEY: ("yubikey in the safe", 200),  # a key of no repo: never used
}


@dataclass(frozen=True, slots=True)
class Repo:
    """A repo, its fields named like the API's. Sizes in bytes, times in Unix seconds."""

    id: str
    name: str
    curve: Curve
    server: str = SERVERS[1]
    quota: int = 0
    quota_enabled: bool = False
    alert_days: int = 2
    format: str | None = "borg1"
    borg_version: str = "V_1_4_X"
    append_only: bool = False
    append_only_keys: tuple[str, ...] | None = ()
    full_access_keys: tuple[str, ...] | None = (DEPLOY,)
    rsync_keys: tuple[str, ...] | None = None
    access_mode: str = "ssh"
    sftp_enabled: bool = False
    encryption: str = "repokey-blake2"
    compaction_enabled: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        """The ids of the SSH keys that write to it."""
        return (self.full_access_keys or ()) + (self.append_only_keys or ())

    def exists(self, now: float) -> bool:
        """Return whether the repo is there at this moment."""
        return self.curve.born <= now

    def usage(self, now: float) -> int:
        """Return the bytes stored at this moment, 0 when the repo does not exist."""
        return round(self.curve.size(now))

    def last_write(self, now: float) -> float | None:
        """Return the time of the last write up to this moment, None when there was none."""
        number = self.curve.writes(now)
        return self.curve.written(number) if number else None


_EU_NORTH, _, _US_EAST, _US_WEST, _DEDICATED = ({"server": host} for host in SERVERS)
_HTTPS: dict[str, Any] = {"access_mode": "https", "compaction_enabled": False}
_HTTPS |= {"full_access_keys": (), "append_only_keys": None}
_RESTIC = {**_HTTPS, "format": "restic", "encryption": "restic"}
_VYKAR = {**_HTTPS, "format": "vykar", "encryption": "aes256-gcm"}
_BORG2 = {"format": "borg2", "borg_version": "V_2_0_X", "encryption": "repokey-aes-ocb"}
_APPEND_ONLY = {"append_only": True, "full_access_keys": ()}
_NAS = {**_APPEND_ONLY, "append_only_keys": (NAS,), "rsync_keys": (NAS,), "sftp_enabled": True}
_AUDIT = {**_APPEND_ONLY, "append_only_keys": (DEPLOY,), "compaction_enabled": False}
_OLD_BORG = {"alert_days": 0, "borg_version": "V_1_1_X", "encryption": "none"}
_LAPTOP = {"full_access_keys": (LAPTOP,), "alert_days": 3, "borg_version": "V_1_2_X"}
_HOME = {"full_access_keys": (NAS, DEPLOY)}

_Role = tuple[str, int, float, float, float, int, Mapping[str, Any]]
# Name, age in days, GB of plateau, growth and churn, quota in GB (0: none), fields.
# The repos with troubles come first, so that small accounts have them too.
_ROLES: tuple[_Role, ...] = (
    ("laptop-anna", 520, 180, 0, 1.2, 500, _LAPTOP),
    ("postgres-prod", 410, 230, 0, 2, 400, _BORG2 | _DEDICATED),
    ("mail.example.org", 300, 93, 0, 0.3, 300, {}),
    ("gitea", 640, 22, 0.01, 0, 0, {"alert_days": 4} | _US_EAST),
    ("new-server", 10, 3, 0, 0.05, 100, _BORG2 | {"borg_version": "LATEST"}),
    ("nas-photos", 700, 1150, 0.4, 0, 0, _NAS | _EU_NORTH),
    ("audit logs", 365, 8, 0.12, 0, 0, _AUDIT),
    ("k8s-etcd", 210, 16, 0, 0.1, 50, _VYKAR | _US_WEST),
    ('web "staging"', 150, 12, 0, 0.08, 0, _OLD_BORG),
    ("Zoë's phone 📱", 95, 24, 0.02, 0, 0, _RESTIC | {"alert_days": 0}),
    ("video-archive", 725, 1850, 0.05, 0, 0, _RESTIC | {"alert_days": 15}),
    ("homeassistant", 60, 1.2, 0, 0.01, 5, _HOME),
)


def cast(seed: int, index: int, start: float, troubles: Collection[Trouble]) -> Repo:
    """Return an account's repo number `index`, as it is for this seed and start."""
    rng = random.Random(f"{seed}/{index}")  # noqa: S311  # variety, not secrecy
    role = _ROLES[index] if index < len(_ROLES) else _extra(index, rng)
    name, age, plateau, growth, churn, quota, fields = role
    born = start - age * DAY - rng.random() * 3600
    clock_time = rng.randrange(21_600) + rng.choice((0.0, 0.123456))  # in the night, UTC
    scale = GB * rng.uniform(0.95, 1.05)
    curve = Curve(
        born=born,
        first=clock_time + DAY * ceil((born - clock_time) / DAY),
        every=7 if name == "video-archive" else 1,
        plateau=plateau * scale,
        growth=growth * scale,
        churn=churn * scale,
        phase=rng.random(),
    )
    fields = {"quota": quota * GB, "quota_enabled": quota > 0, **fields}
    repo = Repo(repo_id(seed, index), name, curve, **fields)
    trouble, change = _trouble(repo, start)
    return replace(repo, curve=replace(curve, **change)) if trouble in troubles else repo


def repo_id(seed: int, index: int) -> str:
    """Return the id of an account's repo number `index`; no two are equal."""
    return f"{(crc32(str(seed).encode()) + index * 2_654_435_761) % 2**32:08x}"


def _trouble(repo: Repo, start: float) -> tuple[Trouble | None, dict[str, Any]]:
    quota = repo.quota
    match repo.name:
        case "postgres-prod":
            return Trouble.QUOTA_NEARLY_FULL, {"plateau": 0.967 * quota, "churn": 0.001 * quota}
        case "mail.example.org":
            surge = {"surge": 0.023 * quota, "surge_from": start - 20 * DAY, "ceiling": quota}
            return Trouble.QUOTA_FILLING, surge
        case "gitea":
            return Trouble.SILENT, {"last": start - 2.5 * repo.alert_days * DAY}
        case "new-server":
            return Trouble.NEVER_USED, {"first": inf}
    return None, {}


def _extra(index: int, rng: random.Random) -> _Role:
    """Return a generated role; its repo is young, so that sums over the history are cheap."""
    plateau = round(10 ** rng.uniform(0, 2.3), 1)
    fields = {**rng.choice((_RESTIC, _BORG2, _VYKAR, {})), "server": rng.choice(SERVERS)}
    quota = rng.choice((0, round(2 * plateau) + 1))
    name = f"host-{index + 1:04}"
    return name, rng.randrange(35, 65), plateau, 0, plateau / 200, quota, fields
