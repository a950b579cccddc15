from __future__ import annotations

from pathlib import Path

import pytest
import trustme


class Certificates:
    """A small certificate authority, and the files that it writes."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.folder = folder
        self.cert_file = folder / "server.pem"
        self.key_file = folder / "server.key"
        self.ca_file = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca_file)
        self.issue()

    def issue(self) -> trustme.LeafCert:
        """Put a new server's certificate in the place of the old one."""
        leaf = self.authority.issue_cert("127.0.0.1", "localhost")
        leaf.private_key_pem.write_to_path(self.key_file)
        leaf.cert_chain_pems[0].write_to_path(self.cert_file)
        return leaf


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)
