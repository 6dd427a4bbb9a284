"""Typed placeholders for personal data: one for each person or value of a conversation, in all its spellings."""

from __future__ import annotations

from collections.abc import Mapping

from tunedesk.core.personal_data.spans import PLACEHOLDER


class Placeholders:
    """Gives each person and value of a conversation its placeholder, the same for all its forms."""

    def __init__(self, mapping: Mapping[str, str], used: str) -> None:
        self.mapping = dict(mapping)
        """Placeholder → the value it stands for, as first met."""
        self._by_value: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}
        for text in (*self.mapping, used):
            for kind, number in PLACEHOLDER.findall(text):
                self._counts[kind] = max(self._counts.get(kind, 0), int(number))
        for placeholder, value in self.mapping.items():
            kind = placeholder[1:].rpartition("_")[0].lower()
            self._by_value[kind, _normal(kind, value)] = placeholder

    def name_people(self, found: list[str]) -> None:
        """Give full names their placeholders before their parts are looked up, in order of appearance."""
        whole = [name for name in found if " " in name]
        for name in found:
            longer = [
                other
                for other in whole
                if len(_name_parts(other)) > len(_name_parts(name)) and _is_part(name, other)
            ]
            self.of("name", longer[0] if longer else name)

    def of(self, kind: str, value: str) -> str:
        """Return the placeholder of a value, a new one when neither it nor the person was met before."""
        key = (kind, _normal(kind, value))
        if key not in self._by_value:
            placeholder = self._person(value) if kind == "name" else None
            self._by_value[key] = placeholder or self._new(kind, value)
        return self._by_value[key]

    def _person(self, name: str) -> str | None:
        """Return the placeholder of the person whose name holds this one, or whose name this one completes."""
        for (kind, _), placeholder in self._by_value.items():
            if kind == "name" and _is_part(name, self.mapping.get(placeholder, "")):
                return placeholder
        return None

    def _new(self, kind: str, value: str) -> str:
        """Return a placeholder not used before and note what it stands for."""
        label = kind.upper()
        self._counts[label] = self._counts.get(label, 0) + 1
        placeholder = f"[{label}_{self._counts[label]}]"
        self.mapping[placeholder] = value
        return placeholder


def _is_part(name: str, other: str) -> bool:
    """Return whether one name is made of parts of the other (`Joan`, `J. Pike` and `Joan Pike`)."""
    mine, theirs = _name_parts(name), _name_parts(other)
    if len(mine) > len(theirs):
        mine, theirs = theirs, mine
    return bool(mine) and all(
        any(part == whole or (len(part) == 1 and whole.startswith(part)) for whole in theirs) for part in mine
    )


def _name_parts(name: str) -> list[str]:
    """Return the words of a name in small letters, without points."""
    return name.casefold().replace(".", " ").split()


def _normal(kind: str, value: str) -> str:
    """Return the form of a value that all its spellings share."""
    if kind == "name":
        return " ".join(_name_parts(value))
    if kind == "phone":
        return "".join(filter(str.isdigit, value))[-9:]
    if kind in ("email", "secret", "ip_address"):
        return value.casefold() if kind == "email" else value
    return "".join(filter(str.isalnum, value)).casefold()
