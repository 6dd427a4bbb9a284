"""An upload in parts, as far as it has come: what survives a stop of this program."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartialUpload:
    """An upload in parts that is under way: what is there already need not be sent again."""

    id: str
    part_bytes: int
    """Size of each part but the last."""
    parts: tuple[str, ...] = ()
    """Ids of the parts that are there, from the first byte on."""
    expires_at: int = 0
    """Unix seconds after which the provider forgets it, 0 when it does not tell."""

    def is_whole(self, size: int) -> bool:
        """Whether every part of `size` bytes is there, so that only its completion is missing."""
        return len(self.parts) * self.part_bytes >= size
