"""Keys of the Data screen that choose who trains what: the provider, its address, the base model."""

from __future__ import annotations

from pathlib import Path

from tests.fakes import Endpoint, ScriptedProvider
from tests.tui.test_data_screen import cases, opened

__all__ = ["cases"]


async def test_another_provider_changes_model_and_cost(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("P", "down", "enter")
        await desk.until(lambda: desk.app.profile == "openai")
        await desk.shows("$")
        await desk.press("m")
        await desk.shows("gpt-4.1-2025-04-14")
        await desk.press("up", "enter")
        await desk.until(lambda: desk.app.model == "gpt-4.1-2025-04-14")


async def test_an_endpoint_can_be_added_by_its_base_url(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        await desk.press("P", "end", "enter")
        await desk.shows("https://host/v1")
        await desk.type("http://127.0.0.1:9/v1")
        await desk.press("enter")
        await desk.until(lambda: desk.app.profile == "127.0.0.1:9")
        await desk.press("P", "end", "enter")
        await desk.type("nonsense")
        await desk.press("enter")
        await desk.said("no provider named")
        assert desk.app.profile == "127.0.0.1:9"


async def test_the_models_of_the_endpoint_can_be_chosen_or_typed(tmp_path: Path, cases: Path) -> None:
    async with opened(tmp_path, cases) as desk:
        endpoint = Endpoint()
        endpoint.replies = {"tiny": lambda _: [], "ft:tiny:local::abc": lambda _: []}
        desk.bench.use(ScriptedProvider(endpoint, desk.bench.profiles()["local"]))
        await desk.press("m")
        await desk.shows("ft:tiny:local::abc")
        await desk.press("down", "enter")
        await desk.until(lambda: desk.app.model == "tiny")
        await desk.press("m")
        await desk.shows("another one")
        await desk.press("end", "enter")
        await desk.shows("the name that the provider knows it by")
        await desk.type("-2")
        await desk.press("enter")
        await desk.until(lambda: desk.app.model == "tiny-2")
