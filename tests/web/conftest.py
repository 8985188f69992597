"""The web page in a real Chromium, on the real stack."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.async_api import BrowserContext, ConsoleMessage, Error, Page, async_playwright, expect

from dev.servers.base import HOST
from dev.system import PAGE, System

CHROMIUM: Final = Path("/usr/bin/chromium")
PATIENCE_MS: Final = 30_000
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[BrowserContext]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is missing: scripts/bootstrap installs it on Debian, as root")
    if not PAGE.exists():
        pytest.skip(f"{PAGE} is missing: `make web` builds it")
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await launched.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 800})
        context.set_default_timeout(PATIENCE_MS)
        yield context
        await launched.close()


@pytest.fixture
async def opened(browser: BrowserContext, system: System) -> AsyncIterator[Page]:
    """The page before a login; it may speak to its own host only, and must have nothing to complain of."""
    page = await browser.new_page()
    hosts: set[str | None] = set()
    complaints: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.on("websocket", lambda socket: hosts.add(urlsplit(socket.url).hostname))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if is_complaint(line) else None)
    await visit(page, system)
    yield page
    await page.close()
    assert hosts == {HOST}
    assert not complaints


def is_complaint(line: ConsoleMessage) -> bool:
    """Return whether the page has caused a message.

    Chromium itself logs a connection that ends during a write, and one that a broker refuses while it starts.
    """
    refused = line.text.startswith("WebSocket connection to") and "ERR_CONNECTION_" in line.text
    return line.type == "error" and line.text != "WebSocket is already in CLOSING or CLOSED state." and not refused


@pytest.fixture
async def page(opened: Page, system: System) -> Page:
    """The page as the admin who has logged in."""
    await log_in(opened, system.profile.password.get_secret_value())
    await expect(opened.get_by_role("heading", name="Overview")).to_be_visible()
    return opened


async def visit(page: Page, system: System) -> None:
    """Open the page; again when Chromium gave up because a network interface of the machine came or went."""
    while True:
        try:
            await page.goto(f"https://{HOST}:{system.http_ports['firmware']}/")
        except Error as error:
            if not any(it in error.message for it in ("ERR_NETWORK_CHANGED", "interrupted by another navigation")):
                raise
        else:
            return


async def log_in(page: Page, password: str, account: str = "admin") -> None:
    await page.get_by_label("Account").fill(account)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Log in").click()


async def go(page: Page, address: str) -> None:
    """Go to an address within the page."""
    await page.evaluate("address => { location.hash = address }", f"#/{address}")
    await expect(page).to_have_url(re.compile(re.escape(f"#/{address}") + "$"))
