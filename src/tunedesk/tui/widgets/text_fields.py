"""Fields to write in whose keys act in the order in which they were typed, however fast they come.

Textual puts a letter into the field at once, but has any other key go up to the app, which looks for its binding when
it comes to that. On a busy machine or a slow link the letters typed behind such a key are in the field by then: what
was typed behind Home stood before it, and what was typed behind Ctrl+S was saved.
"""

from __future__ import annotations

from textual.events import Key
from textual.widgets import Input, TextArea


class TextField(Input):
    """A line."""

    async def _on_key(self, event: Key) -> None:
        if not event.is_printable and await self.app._check_bindings(event.key):
            event.stop().prevent_default()


class TextBox(TextArea):
    """Several lines."""

    async def _on_key(self, event: Key) -> None:
        if not event.is_printable and event.key != "enter" and await self.app._check_bindings(event.key):
            event.stop().prevent_default()
