from __future__ import annotations

from dev.crash_injection import CrashPoint, deaths


def test_after_a_step_and_before_the_next_is_one_crash_point() -> None:
    steps = ["a:before", "a:after", "b:before", "b:after", "a:before", "c:before", "a:after"]
    assert deaths(steps) == [
        CrashPoint("a:before", 1),
        CrashPoint("a:after", 1),
        CrashPoint("b:after", 1),
        CrashPoint("c:before", 1),
        CrashPoint("a:after", 2),
    ]


def test_of_steps_that_are_always_taken_only_the_first_is_a_crash_point() -> None:
    steps = ["a:before", "a:after", "b:before", "b:after", "a:before", "a:after", "c:before"]
    assert deaths(steps, noise=["a:before", "a:after"]) == [
        CrashPoint("a:before", 1),
        CrashPoint("a:after", 1),
        CrashPoint("b:after", 1),
        CrashPoint("c:before", 1),
    ]


def test_the_end_of_a_step_that_began_before_the_run_is_no_crash_point() -> None:
    assert deaths(["a:after", "b:before"]) == [CrashPoint("b:before", 1)]
