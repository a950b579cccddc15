from __future__ import annotations

import stat
from pathlib import Path

from borgbase_exporter.commands.oneshot import replacing


def test_a_draft_is_private_and_leaves_other_files_alone(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("usage.partial", "usage.draft", ".usage.draft"):
        (tmp_path / name).symlink_to(victim)
    before = set(tmp_path.iterdir())
    with replacing(tmp_path / "usage") as file:
        file.write(b"new")
        (draft,) = set(tmp_path.iterdir()) - before
        assert stat.S_IMODE(draft.stat().st_mode) == 0o600
    assert victim.read_text() == "mine"
    assert set(tmp_path.iterdir()) == before | {tmp_path / "usage"}
    assert (tmp_path / "usage").read_bytes() == b"new"
