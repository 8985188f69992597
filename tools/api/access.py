"""Who may write and read a topic, according to the broker's ACL file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from deploy import broker

Access = Literal["read", "write"]
_THEMSELVES = {"d": "the device itself", "claim": "machines of the claim", "recover": "a device that is refused"}
"""The account of a pattern, by the level after the prefix."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The access of an account to the topics that a filter matches."""

    account: str
    access: frozenset[str]
    topic_filter: str


def rules(text: str) -> list[Rule]:
    """Return the rules in the text of an ACL file."""
    return list(_rules(text))


def allowed(template: str, access: Access, given: list[Rule]) -> list[str]:
    """Return the accounts with this access to a topic's template."""
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
    """Return whether a filter matches a template; a name in the template may match a word of the filter."""
    wanted, levels = topic_filter.split("/"), template.split("/")
    for number, level in enumerate(wanted):
        if level == "#":
            return True
        if number == len(levels):
            return False
        if level not in {"+", levels[number]} and not levels[number].startswith("{"):
            return False
    return len(wanted) == len(levels)
