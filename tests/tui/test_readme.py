"""The README's key table is made from the bindings; TUNEDESK_UPDATE=1 writes it anew."""

from __future__ import annotations

import os
from pathlib import Path

from tests.tui.bench import workbench
from tunedesk.tui.app import TunedeskApp
from tunedesk.tui.screens.desk_screen import JOURNEY
from tunedesk.tui.screens.help import bindings_of

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- keys -->\n", "<!-- end of keys -->"


async def key_tables(folder: Path) -> str:
    """Return a table of keys for each screen, those of everywhere once, in the order of the journey."""
    app = TunedeskApp(lambda: workbench(folder))
    sections: dict[str, list[tuple[str, str]]] = {}
    async with app.run_test(size=(200, 50)) as pilot:
        for mode, _, label in JOURNEY:
            await app.switch_mode(mode)
            await pilot.pause()
            for group, keys in bindings_of(app.screen):
                sections.setdefault("Everywhere" if group == "Everywhere" else label, []).extend(keys)
    lines: list[str] = []
    for label in ("Everywhere", *(label for _, _, label in JOURNEY)):
        lines += [f"| {label} | |", "|---|---|"]
        lines += [f"| `{keys}` | {text} |" for keys, text in dict.fromkeys(sections.get(label, ()))]
        lines.append("")
    return "\n".join(lines)


async def test_the_key_table_of_the_readme_is_what_the_app_binds(tmp_path: Path) -> None:
    wanted = await key_tables(tmp_path)
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    shown, _, after = rest.partition(END)
    if os.environ.get("TUNEDESK_UPDATE"):
        README.write_text(before + BEGIN + wanted + END + after, encoding="utf-8")
    else:
        assert shown == wanted, "the key table is stale: TUNEDESK_UPDATE=1 pytest tests/tui/test_readme.py"
