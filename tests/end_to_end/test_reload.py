"""SIGHUP: the web configuration is read again, and every account polled at once."""

import base64
import signal
from pathlib import Path

import bcrypt

from tests.end_to_end.processes import exporter, until

PASSWORD = "apple"
BASIC = "Basic " + base64.b64encode(f"anna:{PASSWORD}".encode()).decode()


def test_sighup_reads_the_web_configuration_and_polls(tmp_path: Path) -> None:
    web_file = tmp_path / "web.yml"
    web_file.write_text("{}")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    with exporter(tmp_path, "--demo", "--web.config.file", web_file) as running:

        def polled(times: int, **headers: str) -> bool:
            page = running.get("/metrics", **headers).text
            return f'borgbase_polls_total{{account="demo"}} {times}\n' in page

        until(lambda: polled(1), "the first poll has ended")

        web_file.write_text(f"basic_auth_users: {{anna: {hashed}}}")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: running.get("/metrics").status == 401, "a password is asked for")
        until(lambda: polled(2, Authorization=BASIC), "the account has been polled again")

        web_file.write_text("colour: red")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: "colour" in running.log, "the invalid file is reported")
        until(lambda: polled(3, Authorization=BASIC), "the account has been polled all the same")
        assert running.get("/metrics").status == 401

        web_file.unlink()
        running.process.send_signal(signal.SIGHUP)
        until(lambda: "No such file" in running.log, "the missing file is reported")
        assert running.get("/metrics", Authorization=BASIC).status == 200
