"""The command palette: every action of the screen on top by its name, for who does not know the key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from textual.binding import Binding
from textual.command import CommandList, CommandPalette, DiscoveryHit, Hit, Hits, Provider

from tunedesk.tui.screens.dialogs import Modal


class Palette(CommandPalette, Modal[None]):
    """Textual's palette, which closes nothing but itself."""

    def _action_command_list(self, action: str) -> None:
        """Act on the list, but not before it has a place on the screen: Textual's fails there."""
        if self.query_one(CommandList).scrollable_content_region:
            super()._action_command_list(action)


class DeskCommands(Provider):
    """Offers what has a key: the bindings of the screen, its focused pane and the app."""

    def _bindings(self) -> Iterator[Binding]:
        seen: set[str] = set()
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.id and binding.description and binding.action not in seen and active.enabled:
                seen.add(binding.action)
                yield binding

    async def discover(self) -> Hits:
        """List all actions while nothing is typed."""
        for binding in self._bindings():
            yield DiscoveryHit(
                self._name(binding), self._run(binding), help=binding.tooltip or binding.description
            )

    async def search(self, query: str) -> Hits:
        """List the actions whose name or explanation fits."""
        matcher = self.matcher(query)
        for binding in self._bindings():
            name = self._name(binding)
            score = max(matcher.match(name), matcher.match(binding.tooltip) * 0.7)
            if score > 0:
                yield Hit(score, matcher.highlight(name), self._run(binding), help=binding.tooltip)

    def _name(self, binding: Binding) -> str:
        return f"{binding.description}  ({self.app.get_key_display(binding)})"

    def _run(self, binding: Binding) -> Callable[[], Awaitable[None]]:
        node = self.screen.active_bindings[binding.key].node

        async def run() -> None:
            await self.app.run_action(binding.action, node)

        return run
