from __future__ import annotations

from tools import typescript


def test_a_field_that_may_be_left_out_and_one_that_must_be_given() -> None:
    text = typescript.render()
    asked = text.split("export interface DeviceAdd {")[1].split("}")[0]
    assert "  model: string;" in asked
    assert "  tags?: string[];" in asked
    assert "request_id" not in asked


def test_an_answer_has_all_its_fields() -> None:
    answered = typescript.render().split("export interface DeviceView {")[1].split("}")[0]
    assert '  health: "healthy" | "warning" | "critical" | "inactive" | "never_seen" | "disabled";' in answered
    assert "  firmware_version: string | null;" in answered
    assert "?" not in answered


def test_an_event_has_its_name_its_device_and_what_it_says() -> None:
    text = typescript.render()
    assert '  | Told<"device", "online", string, OnlineFacts>' in text
    assert '  | Told<"rotation", "queued", string | undefined, SelectionFacts>' in text
    assert '  | Told<"rollout", "started", undefined, RolloutStartFacts>' in text
    started = text.split("export interface RolloutStartFacts {")[1].split("}")[0]
    assert "  unfit: number;" in started
    assert "  tags?: string[];" in started
