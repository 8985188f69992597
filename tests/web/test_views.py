"""Each view of the page, as each role sees it, on a wide screen and on a phone."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

import pytest
from playwright import async_api
from playwright.async_api import Page, expect

from dev.database import run
from dev.fleet import Fleet
from dev.stack import Stack
from dev.system import PAGE
from dev.uploads import build, upload
from shared import crypto
from shared.protocol import admin
from shared.protocol.admin import Role
from tests.web.conftest import go, log_in

TABS: Final = (
    *("configuration", "history", "events", "vitals", "commands"),
    *("log", "rotations", "connection", "coredumps", "setup"),
)
WIDTHS: Final = (1280, 390)
TOO_WIDE: Final = """
    document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("main *")]
      .filter((element) => element.getBoundingClientRect().right > innerWidth && !element.closest(".scroll"))
      .map((element) => element.outerHTML.slice(0, 200))
"""
BUTTONS: Final = """
    [...document.querySelectorAll("main button:not(.chip):not([role=columnheader] button)")]
      .map((button) => [button.ariaLabel ?? button.innerText.trim(), button.disabled, button.title])
"""
LIVE: Final = {
    Role.VIEWER: r"Columns|Save this view|Forget this view|Look again|Details.*|Show.*|Older|Newest|Changes of .*|"
    r"Edit as (JSON|a form)|Clear .*|Restart and open console",
    Role.OPERATOR: r"Add (device|layer|network)|Import|Edit.*|(Change|Remove) seen|Rotate secret|Disable|Enable|"
    r"Save and push|Upload image|Release.*|Withdraw.*|Keep.*|Unkeep.*|Start ro.*|Cancel all|Roll back.*|"
    r"Send( command| to .*)?|Download image|Pause|Resume|Abort",
    Role.ADMIN: r".*",
}
"""Buttons that an account of this role may use and one of a lesser role may not."""


async def fill(fleet: Fleet, stack: Stack) -> str:
    """Have something to be seen in each view, and no layers of other tests; return the tabs' device."""
    await run(stack, "DELETE FROM mdm.config_layers")
    schema = {"properties": {"on": {"type": "boolean"}, "n": {"type": "integer"}}}
    model = await fleet.model(config_schema=schema)
    package = await fleet.device(model, tags=["seen"])
    await fleet.ask(admin.CONFIG_SET, device=package.client_id, overrides={"n": 1})
    await fleet.ask(admin.LAYER_SET, tag="seen", document={"on": True})
    await fleet.ask(admin.COMMAND_SEND, device=package.client_id, name="identify")
    await upload(fleet, model, build(model, "1.1.0"), release=False)
    return package.client_id


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.ADMIN])
async def test_each_view_fits_shows_no_error_and_offers_what_the_role_may_do(
    opened: Page, fleet: Fleet, stack: Stack, role: Role
) -> None:
    page, device = opened, await fill(fleet, stack)
    password = crypto.new_secret().get_secret_value()
    await fleet.ask(admin.ACCOUNT_ADD, name=f"views-{role}", role=role, password=password)
    await log_in(page, password, f"views-{role}")
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    if role is not Role.ADMIN:
        await expect(page.locator("header").get_by_text(role, exact=True)).to_be_visible()
    await page.evaluate((PAGE.parent / "node_modules/axe-core/axe.min.js").read_text())
    links = await page.locator("nav a").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    views = [link.removeprefix("#/") for link in links] + [f"device/{device}/{tab}" for tab in TABS]
    assert len(views) > len(TABS) + 10
    faults: list[str] = []
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 800})
        await page.emulate_media(color_scheme="light" if width == WIDTHS[0] else "dark")
        for view in views:
            await go(page, view)
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
            await expect(page.get_by_text("Loading…")).to_have_count(0)
            faults += [f"{view} at {width}: {it}" for it in await faults_of(page, role)]
    assert not faults, "\n".join(faults)
    await fleet.ask(admin.ACCOUNT_REMOVE, name=f"views-{role}")


async def faults_of(page: Page, role: Role) -> list[str]:
    """Return what is wrong with a view."""
    with suppress(async_api.TimeoutError):
        await page.wait_for_function(f"({TOO_WIDE}).length === 0", timeout=2_000)
    found = [f"too wide: {it}" for it in await page.evaluate(TOO_WIDE)]
    found += [f"error: {it}" for it in await page.locator("main [role=alert]").all_inner_texts()]
    for text, is_off, title in await page.evaluate(BUTTONS):
        name = " ".join(text.split())
        least = next(it for it, names in LIVE.items() if re.fullmatch(names, name))
        is_allowed = list(LIVE).index(role) >= list(LIVE).index(least)
        if not is_allowed and not (is_off and title == f"This needs the role {least}; your account is {role}."):
            found.append(f"live, or without the reason: {name} ({title})")
        if is_allowed and title.startswith("This needs"):
            found.append(f"not allowed: {name}")
    if role is Role.ADMIN:
        violations = (await page.evaluate("axe.run(document, { resultTypes: ['violations'] })"))["violations"]
        found += [f"{it['id']}: {it['nodes'][0]['html']}" for it in violations]
    return found
