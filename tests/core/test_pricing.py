"""Costs before a job: never guessed, dated, with their range."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tunedesk.core.counting.pricing import (
    asking_usd,
    default_epochs,
    epochs_for,
    estimate,
    load_prices,
    price_for,
)
from tunedesk.errors import UsageError


@pytest.mark.parametrize(
    ("conversations", "epochs"),
    [(5, 20), (1, 25), (10, 10), (33, 3), (34, 3), (300, 3), (10_000, 2), (40_000, 1)],
)
def test_auto_epochs_follow_the_published_rule(conversations: int, epochs: int) -> None:
    assert default_epochs(conversations) == epochs


def test_the_engine_on_this_machine_goes_twice_through() -> None:
    assert epochs_for(270, local=True).n == 2
    assert epochs_for(10, local=True).n == 10
    assert epochs_for(270, 4, local=True).n == 4


def test_every_price_names_its_source_and_date() -> None:
    for price in load_prices().values():
        assert price.source.startswith("https://")
        assert date.fromisoformat(price.as_of)
        assert date.fromisoformat(price.shutdown)


def test_a_fine_tuned_model_costs_what_its_base_costs() -> None:
    prices = load_prices()
    assert price_for("ft:gpt-4.1-mini-2025-04-14:acme::x", prices) == prices["gpt-4.1-mini"]


def test_cost_has_a_range_when_epochs_are_auto() -> None:
    found = estimate(1_000_000, 300, "gpt-4o-mini", load_prices())
    assert (found.low, found.usd, found.high) == (6.0, 9.0, 12.0)
    assert found.billed_tokens == 3_000_000


def test_asked_epochs_have_no_range() -> None:
    found = estimate(1_000_000, 300, "gpt-4o-mini", load_prices(), n_epochs=2)
    assert (found.low, found.usd, found.high) == (6.0, 6.0, 6.0)
    assert epochs_for(300, 2).rule == "as asked"


def test_an_unknown_price_stays_unknown_and_this_machine_is_free() -> None:
    assert estimate(1_000, 10, "mystery-1", load_prices()).usd is None
    assert estimate(1_000, 10, "SmolLM2-135M-Instruct", load_prices(), local=True).usd == 0


def test_the_users_prices_go_over_the_shipped_ones(tmp_path: Path) -> None:
    own = tmp_path / "prices.toml"
    own.write_text('[[model]]\nprefix = "gpt-4o"\ntraining = 1.5\nas_of = "2026-11-01"\n')
    assert load_prices(own)["gpt-4o"].training == 1.5
    own.write_text("[[model]]\ntraining = 1.5\n")
    with pytest.raises(UsageError, match=r"prices\.toml"):
        load_prices(own)


@pytest.mark.parametrize(
    ("row", "line", "what"),
    [
        ('[[model]]\nprefix = "a"\n', 1, "'training' is missing"),
        ('\n# mine\n[[model]]\nprefix = "a"\ntraining = "5"\n', 3, "training = '5' is no price"),
        ('[[model]]\nprefix = "a"\ntraining = 1\n[[model]]\nprefix = "b"\ntraining = -1\n', 4, "no price"),
        ('[[model]]\nprefix = "a"\ntraining = 1\nas_of = "soon"\n', 1, "soon"),
        ('[[model]]\nprefix = "a"\ntraining = 1\ncolour = "red"\n', 1, "colour"),
        ("[[model]]\nprefix = 5\ntraining = 1\n", 1, "prefix is a model's name"),
    ],
)
def test_a_bad_row_of_the_users_file_is_named_by_file_and_line(
    row: str, line: int, what: str, tmp_path: Path
) -> None:
    own = tmp_path / "prices.toml"
    own.write_text(row)
    with pytest.raises(UsageError, match=rf"prices\.toml, line {line}: .*{what}"):
        load_prices(own)


def test_a_date_may_be_written_without_quotes(tmp_path: Path) -> None:
    own = tmp_path / "prices.toml"
    own.write_text('[[model]]\nprefix = "a"\ntraining = 1\nas_of = 2026-11-01\n')
    assert load_prices(own)["a"].as_of == "2026-11-01"


def test_asking_a_base_model_costs_less_than_asking_what_is_tuned_from_it() -> None:
    prices = load_prices()
    assert asking_usd("gpt-4.1-mini", 1_000_000, 1_000_000, prices) == 2.0
    assert asking_usd("ft:gpt-4.1-mini-2025-04-14:o::x", 1_000_000, 1_000_000, prices) == 4.0
    assert asking_usd("mystery", 1, 1, prices) is None
