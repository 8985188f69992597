"""Rotations and rollouts in the page, as they go on."""

from __future__ import annotations

from playwright.async_api import Page, expect

from dev.fleet import Fleet
from dev.uploads import upload
from device import image_builder
from device.options import Hooks
from shared.protocol import admin
from tests.web.conftest import go


async def test_a_rotation_is_started_and_seen_to_be_done(page: Page, fleet: Fleet) -> None:
    package = await fleet.device(tags=["tonight"])
    async with fleet.powered(package):
        await fleet.until(package, lambda view: view.online)
        await page.get_by_role("link", name="Rotation").click()
        await page.get_by_label("Devices", exact=True).select_option("tag tonight")
        await page.get_by_role("button", name="Start rotation of 1 device").click()
        await page.get_by_role("button", name="Start", exact=True).click()
        await expect(page.get_by_text("1 device queued")).to_be_visible()
        ended = page.get_by_role("region", name="Recently ended")
        await expect(ended.get_by_role("listitem").filter(has_text=package.client_id)).to_contain_text("completed")
        await ended.get_by_role("link", name=package.client_id).click()
        await expect(page.get_by_role("row", name="2 done")).to_be_visible()
        await expect(page.get_by_role("row", name="Secret generation 2 generation 2")).to_be_visible()


async def test_a_rollout_is_checked_started_and_seen_to_halt(page: Page, fleet: Fleet) -> None:
    model = await fleet.model()
    await upload(fleet, model, image_builder.build(version="1.1.0", project=model), release=False)
    package = await fleet.device(model)
    hooks = Hooks(self_test=lambda _version: "the lamp stays dark")
    async with fleet.powered(package, hooks=hooks):
        await fleet.until(package, lambda view: view.firmware_version)
        await go(page, "rollouts")
        await page.get_by_role("button", name="Start rollout").click()
        dialog = page.get_by_role("dialog", name="Start rollout")
        await dialog.get_by_label("Image").select_option(label=f"{model} 1.1.0")
        await dialog.get_by_label("Waves", exact=True).fill("100%")
        await dialog.get_by_label("Failure limit").fill("0")
        await dialog.get_by_label("Soak time in seconds").fill("0")
        await dialog.get_by_role("button", name="Run preflight").click()
        await expect(dialog.get_by_text("1 device would take it")).to_be_visible()
        await dialog.get_by_role("button", name="Start for 1 device").click()
        await expect(page.get_by_role("heading", name=f"{model} 1.1.0")).to_be_visible()
        await expect(page.get_by_text("wave 1: 1 of 1 devices failed, 0 may").first).to_be_visible()
        await expect(page.get_by_role("button", name="Resume")).to_be_visible()
        await expect(page.get_by_role("region", name="Plan")).to_contain_text("Silence limit30 min")
        failures = page.get_by_role("region", name="Failures")
        await expect(failures.get_by_role("row").filter(has_text=package.client_id)).to_contain_text("rolled back")
        await page.get_by_role("button", name="Abort").click()
        await expect(page.get_by_text("aborted", exact=True)).to_have_count(1)


async def test_the_schedule_is_shown_changed_and_cleared(page: Page, fleet: Fleet) -> None:
    await fleet.ask(admin.SCHEDULE_CLEAR)  # of other tests
    await go(page, "rotation")
    panel = page.get_by_role("region", name="Schedule")
    await expect(panel.get_by_text("never").first).to_be_visible()
    await panel.get_by_role("button", name="Change schedule").click()
    form = page.get_by_role("dialog", name="Change schedule")
    await form.get_by_label("Time zone").select_option("Asia/Tokyo")
    await form.get_by_label("Schedule", exact=True).fill("0 0 31 2 *")
    await form.get_by_role("button", name="Save").click()
    await expect(form.get_by_role("alert")).to_contain_text("must be an expression of cron that has a next time")
    await form.get_by_label("Schedule", exact=True).fill("30 3 1 1 *")
    await form.get_by_role("button", name="Save").click()
    await expect(form).to_have_count(0)
    await expect(panel.get_by_text("set by admin")).to_be_visible()
    await expect(panel.get_by_text("January 1").first).to_contain_text("3:30")
    await fleet.ask(admin.SCHEDULE_SET, expression="0 4 1 1 *")
    await expect(panel.get_by_text("0 4 1 1 *")).to_be_visible()
    await panel.get_by_role("button", name="Use the settings").click()
    await page.get_by_role("dialog").get_by_role("button", name="Return").click()
    await expect(panel.get_by_text("the rotator's settings")).to_be_visible()
