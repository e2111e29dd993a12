"""Reads as much of a PromQL expression as is needed to know which series, labels and values it names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

KEYWORDS = {"and", "or", "unless", "bool", "inf", "nan", "atan2", "offset", "start", "end"}
LABEL_LISTS = "by|without|on|ignoring|group_left|group_right"

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`')
_COMMENT = re.compile(r"#[^\n]*")
_VARIABLE = re.compile(r"\$\{[^}]*\}|\$\w+|\[\[\w+\]\]")
_LABELS = re.compile(rf"\b(?:{LABEL_LISTS})\s*\(([^)]*)\)", re.IGNORECASE)
_NAME = re.compile(r"(?<![\w:.])([a-zA-Z_:][a-zA-Z0-9_:]*)(?![\w:])\s*(\(|\{[^}]*\})?")
_MATCHER = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*@(\d+)@")


@dataclass
class Matcher:
    """One condition on a label."""

    label: str
    operator: str
    value: str


@dataclass
class Selector:
    """A series by name, and the conditions on its labels."""

    name: str
    matchers: list[Matcher] = field(default_factory=list)


@dataclass
class Expression:
    """What an expression names."""

    selectors: list[Selector]
    grouped_by: set[str]


def read(text: str) -> Expression:
    """The selectors of an expression, and the labels that it groups or joins by.

    Variables of a dashboard stand for anything: outside of strings they are left out, and in the value of a matcher
    they stay, so that the caller sees that it cannot judge that value.
    """
    strings: list[str] = []

    def keep(found: re.Match[str]) -> str:
        strings.append(found.group()[1:-1].replace('\\\\', '\\'))
        return f"@{len(strings) - 1}@"

    # Strings first: what looks like a comment or a name in one is none.
    text = _STRING.sub(keep, text)
    text = _COMMENT.sub("", text)
    text = _VARIABLE.sub("", text)
    text = re.sub(r"\[[^\]]*\]|\boffset\s+-?\w*", " ", text)
    grouped: set[str] = set()
    for labels in _LABELS.findall(text):
        grouped.update(label.strip() for label in labels.split(",") if label.strip())
    text = _LABELS.sub(" ", text)

    selectors = []
    for found in _NAME.finditer(text):
        name, rest = found.group(1), found.group(2) or ""
        if rest == "(" or name.lower() in KEYWORDS:
            continue
        selectors.append(
            Selector(name, [Matcher(label, how, strings[int(number)]) for label, how, number in _MATCHER.findall(rest)])
        )
    return Expression(selectors, grouped)
