"""The data that dashboards query, and a browser in which Grafana's packages draw them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dashboards.browser import Grafana, browsing, build
from tests.dashboards.world import World, world
from tests.programs import require


@pytest.fixture(scope="package")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("dashboards")) as made:
        yield made


@pytest.fixture(scope="package")
def grafana() -> Iterator[Grafana]:
    chromium = require("chromium")
    with browsing(chromium, require("npm", lambda _: build())) as browser:
        yield browser
