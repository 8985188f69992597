from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from starlette.routing import Router

from services.firmware.http import web_ui
from shared.errors import InvalidInputError

INDEX = '<!doctype html><head><meta name="mdm-broker" content="" /></head>'


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text(INDEX)
    (tmp_path / "assets/index-abc.js").write_text("export {};")
    return tmp_path


async def get(
    folder: Path,
    path: str = "/",
    *,
    broker_url: str = "wss://{host}:8885",
    base: str = "https://mdm.lan:8443",
    host: str | None = None,
) -> httpx.Response:
    app = Router(web_ui.read(folder, broker_url).routes(), redirect_slashes=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as client:
        return await client.get(path, headers={} if host is None else {"host": host})


async def test_the_page_is_told_its_broker_and_may_speak_to_no_other_host(built: Path) -> None:
    answer = await get(built)
    assert answer.status_code == 200
    assert 'name="mdm-broker" content="wss://mdm.lan:8885"' in answer.text
    policy = answer.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "connect-src wss://mdm.lan:8885" in policy
    assert "frame-ancestors 'none'" in policy
    assert not any("unsafe" in rule for rule in policy)
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_broker_behind_a_proxy_is_named_with_its_path(built: Path) -> None:
    answer = await get(built, broker_url="wss://mqtt.example.org/mqtt")
    assert 'content="wss://mqtt.example.org/mqtt"' in answer.text
    assert "connect-src wss://mqtt.example.org;" in answer.headers["content-security-policy"]


async def test_an_address_is_a_host_too(built: Path) -> None:
    answer = await get(built, base="https://[::1]:8443")
    assert "connect-src wss://[::1]:8885;" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("host", ['"><script>', "a b", ";", ""])
async def test_a_host_that_is_none_does_not_get_into_the_page(built: Path, host: str) -> None:
    assert (await get(built, host=host)).status_code == 400


async def test_what_has_its_content_in_its_name_is_kept_by_browsers(built: Path) -> None:
    answer = await get(built, "/assets/index-abc.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("path", ["/assets/none.js", "/assets/..%2findex.html", "/../secret", "/index.htm"])
async def test_nothing_else_is_served(built: Path, path: str) -> None:
    (built.parent / "secret").write_text("x")
    assert (await get(built, path)).status_code == 404


@pytest.mark.parametrize("index", [None, "<!doctype html>"], ids=["not built", "another page"])
def test_a_folder_without_the_page_is_refused(tmp_path: Path, index: str | None) -> None:
    (tmp_path / "assets").mkdir()
    if index is not None:
        (tmp_path / "index.html").write_text(index)
    with pytest.raises(InvalidInputError, match="MDM_WEB_DIR"):
        web_ui.read(tmp_path, "wss://{host}:8885")
