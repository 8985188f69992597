"""The page as a person uses it."""

from __future__ import annotations

import json

from playwright.async_api import Page, expect

from dev.credentials import CONTROL, account_client
from dev.fleet import Fleet
from dev.system import System
from tests.claims import new_claim
from tests.web.conftest import go, log_in


async def test_a_wrong_password_is_reported_and_can_be_corrected(opened: Page, system: System) -> None:
    await log_in(opened, "wrong")
    await expect(opened.get_by_role("alert")).to_have_text("The account or the password is wrong.")
    await log_in(opened, system.profile.password.get_secret_value())
    await expect(opened.get_by_role("heading", name="Overview")).to_be_visible()


async def test_the_password_is_only_in_memory_unless_it_is_to_be_stored(page: Page, system: System) -> None:
    async def stored() -> list[int]:
        counts: list[int] = await page.evaluate("[localStorage.length, sessionStorage.length]")
        return counts

    assert await stored() == [0, 0]
    await page.reload()
    await page.get_by_label("Stay logged in").check()
    await log_in(page, system.profile.password.get_secret_value())
    heading = page.get_by_role("heading", name="Overview")
    await expect(heading).to_be_visible()
    assert await stored() == [0, 1]
    await page.reload()
    await expect(heading).to_be_visible()
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("Password")).to_be_visible()
    assert await stored() == [0, 0]


async def test_the_audit_log_shows_who_did_what(page: Page, fleet: Fleet) -> None:
    package = await fleet.device()
    await go(page, "audit")
    await page.get_by_label("Subject", exact=True).fill(package.client_id)
    await page.get_by_role("button", name="Show").first.click()
    await expect(page.get_by_role("row", name="admin device.add")).to_be_visible()


async def test_a_missing_device_is_reported(page: Page) -> None:
    await go(page, "device/iotdevice-none-00000000")
    await expect(page.get_by_role("alert")).to_contain_text("no device")


async def test_a_lost_connection_comes_back_by_itself(page: Page, system: System) -> None:
    system.stack.broker.kill()
    await expect(page.get_by_text("The connection to the broker is lost")).to_be_visible()
    system.stack.broker.start()
    await expect(page.get_by_text("The connection to the broker is lost")).to_have_count(0)
    await go(page, "devices")
    await expect(page.get_by_role("heading", name="Devices")).to_be_visible()


async def test_an_account_whose_password_was_changed_is_logged_out(page: Page, system: System) -> None:
    endpoints = system.stack.endpoints

    async def set_password(password: str) -> None:
        change = {"command": "setClientPassword", "username": "admin", "password": password}
        async with account_client(endpoints, "svc-accounts") as accounts:
            await accounts.publish(CONTROL, json.dumps({"commands": [change]}), qos=1)

    try:
        await set_password("changed")
        await expect(page.get_by_text("The account or the password is wrong.")).to_be_visible()
    finally:
        await set_password(endpoints.accounts["admin"])
    await log_in(page, endpoints.accounts["admin"])
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()


async def test_the_page_is_used_by_keys_on_a_small_screen(opened: Page, system: System) -> None:
    page = opened
    await page.set_viewport_size({"width": 360, "height": 640})
    await page.get_by_label("Password").fill(system.profile.password.get_secret_value())
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await page.keyboard.press("Tab")
    await page.get_by_role("button", name="Menu").click()
    await page.get_by_role("link", name="Audit").click()
    await expect(page.get_by_role("heading", name="Audit")).to_be_visible()
    await expect(page.get_by_role("link", name="Audit")).to_be_hidden()


async def test_a_forbidden_request_is_reported(opened: Page, fleet: Fleet) -> None:
    package = await fleet.device()
    await log_in(opened, package.secret, package.client_id)
    # A device's account is let in under its own client id only.
    await expect(opened.get_by_role("alert")).to_have_text("The account or the password is wrong.")
    claim = await new_claim(fleet)
    await log_in(opened, claim.password, claim.account)
    await expect(opened.get_by_role("alert")).to_contain_text(f"The account {claim.account} may not do this")
