"""The page as a person uses it."""

from __future__ import annotations

from playwright.async_api import Page, expect

from tests.system import System
from tests.web.conftest import log_in


async def test_a_wrong_password_is_told_and_can_be_put_right(opened: Page, system: System) -> None:
    await log_in(opened, "wrong")
    await expect(opened.get_by_role("alert")).to_have_text("The account or the password is wrong.")
    await log_in(opened, system.profile.password.get_secret_value())
    await expect(opened.get_by_role("heading", name="Overview")).to_be_visible()
