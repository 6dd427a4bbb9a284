"""All keys of a screen, made from its bindings, so that none can be missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from textual.app import App
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from tunedesk.tui.screens.dialogs import Dialog
from tunedesk.tui.widgets.plain import plain_line


def bindings_of(screen: Screen[Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return (group, [(keys, what they do)]) for the screen, its panes and the app; our own bindings alone."""
    groups: dict[str, dict[str, tuple[list[str], str]]] = {}
    nodes: list[DOMNode] = [screen, *screen.query("*"), screen.app]
    for node in nodes:
        for binding in _own_bindings(node):
            group = "Everywhere" if isinstance(node, App) else _name(node)
            told = binding.tooltip or binding.description
            keys, _ = groups.setdefault(group, {}).setdefault(binding.action, ([], told))
            if (key := screen.app.get_key_display(binding)) not in keys:
                keys.append(key)
    return [
        (name, [(" ".join(keys), text) for keys, text in actions.values()])
        for name, actions in groups.items()
    ]


def _own_bindings(node: DOMNode) -> list[Binding]:
    return [
        binding
        for bindings in node._bindings.key_to_bindings.values()
        for binding in bindings
        if binding.id and binding.description
    ]


def _name(node: DOMNode) -> str:
    return str(getattr(node, "TITLE", None) or getattr(node, "BORDER_TITLE", None) or type(node).__name__)


class HelpDialog(Dialog[bool]):
    """The keys, by group, with what each does and whether it is disabled now."""

    def __init__(self, screen: Screen[Any]) -> None:
        """List the keys of `screen`."""
        super().__init__("Keys", "↑ ↓ scroll · Esc close")
        self._groups = bindings_of(screen)

    def compose_body(self) -> Iterable[Widget]:
        """Yield the list."""
        lines: list[Content] = []
        for name, bindings in self._groups:
            lines.append(plain_line(name, "bold underline"))
            lines += [
                Content.assemble(("  " + keys.ljust(16), "bold"), " ", plain_line(text))
                for keys, text in bindings
            ]
            lines.append(Content(""))
        yield VerticalScroll(Static(Content("\n").join(lines[:-1]), markup=False))
