"""Who may write and read a topic, according to the broker's ACL file and the role of consumers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from deploy import broker
from shared.broker import acl
from shared.protocol import topics
from shared.protocol.words import Role

Access = Literal["read", "write"]
_THEMSELVES = {
    f"{topics.PREFIX}/claim/": "machines of the claim",
    f"{topics.PREFIX}/recover/": "a device that is refused",
    "": "the device itself",
}
"""The account of a pattern, by the beginning of its topics."""


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
    """Return the rules of the ACL file that is deployed, and those of consumers."""
    consumers = [
        Rule("role app", frozenset({"write" if rule.acltype == "publishClientSend" else "read"}), rule.topic)
        for rule in sorted(acl.acls("", Role.APP), key=lambda rule: rule.topic)
        if rule.allow
    ]
    return [*rules(broker.render_acl()), *consumers]


def _rules(text: str) -> Iterator[Rule]:
    user = ""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "user":
            user = rest
        elif kind in {"topic", "pattern"}:
            access, _, topic_filter = rest.partition(" ")
            granted = frozenset({"read", "write"} if access == "readwrite" else {access})
            themselves = next(who for start, who in _THEMSELVES.items() if topic_filter.startswith(start))
            account = user if kind == "topic" else themselves
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
