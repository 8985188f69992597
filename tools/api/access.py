"""Who may write and read a topic, read from the broker's ACL file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from deploy import broker

Access = Literal["read", "write"]
_THEMSELVES = {"d": "the device itself", "claim": "machines of the claim", "recover": "a device that is refused"}
"""Of which account a pattern speaks, by the level behind the prefix."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An account may do this with the topics that a filter matches."""

    account: str
    access: frozenset[str]
    topic_filter: str


def rules(text: str) -> list[Rule]:
    """Return the rules in the text of an ACL file."""
    return list(_rules(text))


def allowed(template: str, access: Access, given: list[Rule]) -> list[str]:
    """Return who may do this with a topic's template."""
    found = [rule.account for rule in given if access in rule.access and _covers(rule.topic_filter, template)]
    return list(dict.fromkeys(found))


def current() -> list[Rule]:
    """Return the rules of the ACL file that is deployed."""
    return rules(broker.render_acl())


def _rules(text: str) -> Iterator[Rule]:
    user = ""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "user":
            user = rest
        elif kind in {"topic", "pattern"}:
            access, _, topic_filter = rest.partition(" ")
            granted = frozenset({"read", "write"} if access == "readwrite" else {access})
            account = user if kind == "topic" else _THEMSELVES[topic_filter.split("/")[2]]
            yield Rule(account, granted, topic_filter)


def _covers(topic_filter: str, template: str) -> bool:
    """Say whether a filter matches a template; a name in the template may stand for the filter's own word."""
    wanted, levels = topic_filter.split("/"), template.split("/")
    for number, level in enumerate(wanted):
        if level == "#":
            return True
        if number == len(levels):
            return False
        if level not in {"+", levels[number]} and not levels[number].startswith("{"):
            return False
    return len(wanted) == len(levels)
