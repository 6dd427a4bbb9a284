"""Tables of one exchange a row: what the customer said, what was answered, and the conversation both belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunedesk.core.importing import columns, records
from tunedesk.core.importing.roles import said
from tunedesk.core.importing.rows import is_nothing
from tunedesk.core.importing.sources import Item
from tunedesk.core.importing.tables import TurnColumns

_SPEAKER, _TEXT = "exchange speaker", "exchange text"
"""Columns of the turns that an exchange is parted into."""
_LONGEST_ID = 200
_MOST_EXCHANGES = 30
"""Exchanges a conversation has on average, from which its "id" is rather a subject that many rows share."""


@dataclass(frozen=True, slots=True)
class ExchangeColumns:
    """Which columns of a table of exchanges mean what."""

    conversation: str
    user: str
    assistant: str
    order: str = ""
    """Empty where the rows stand in their order."""
    sure: bool = True
    """The ids look like ids: they hold digits."""

    @property
    def used(self) -> dict[str, str]:
        """Meaning → column."""
        told = {"conversation": self.conversation, "user": self.user, "assistant": self.assistant}
        return {**told, "order": self.order} if self.order else told

    @property
    def turns(self) -> TurnColumns:
        """Columns of the turns that `turns_of` yields."""
        return TurnColumns(self.conversation, _SPEAKER, _TEXT, self.order)


def exchange_columns(
    sample: Sequence[Mapping[str, Any]], mapping: Mapping[str, str]
) -> ExchangeColumns | None:
    """Return the columns when `sample` has both sides in each row and ids that come again; None when it does not."""
    if not sample or "speaker" in mapping:
        return None
    names = list(dict.fromkeys(str(name) for record in sample for name in record))
    conversation = mapping.get("conversation") or columns.find("conversation", names)
    if conversation is None or not (mapping or records.format_of(sample[0]) == "pairs"):
        return None
    rest = {name: sample[0].get(name) for name in names if name != conversation}
    found = records.pair_columns(rest, mapping)
    if found is None or (records.numbered(rest) and not mapping):
        return None
    ids = [said(record.get(conversation)).strip() for record in sample]
    distinct = {one for one in ids if one}
    if "conversation" not in mapping and (
        len(distinct) == len(ids)
        or len(ids) > _MOST_EXCHANGES * len(distinct)
        or any(len(one) > _LONGEST_ID for one in ids)
    ):
        return None
    order = mapping.get("order") or columns.find("order", [name for name in rest if name not in found]) or ""
    sure = "conversation" in mapping or any(map(str.isdigit, "".join(distinct)))
    return ExchangeColumns(conversation, *found, order, sure)


def turns_of(cells: Iterable[Item], names: ExchangeColumns) -> Iterator[Item]:
    """Yield what each side said as a row of its own; a row in which neither said anything as a fault."""
    for cell in cells:
        if cell.fault or not isinstance(cell.record, Mapping):
            yield cell
            continue
        rest = {key: value for key, value in cell.record.items() if key not in (names.user, names.assistant)}
        spoken = [
            (role, text)
            for role, name in (("user", names.user), ("assistant", names.assistant))
            if not is_nothing(text := said(cell.record.get(name)))
        ]
        if not spoken:
            yield Item(cell.line, {}, "neither side says anything in it")
        for role, text in spoken:
            yield Item(cell.line, {**rest, _SPEAKER: role, _TEXT: text})
