"""The order in which the parts of a query are looked at: cheap ones first, then what leaves the least to the others."""

from __future__ import annotations

from collections.abc import Callable

from tunedesk.core.searching.query import And, Node, Not, Or, Pattern, Text

Rate = Callable[[Node], float]
"""The share of rows that a node matches, as far as that can be told."""


def planned(node: Node, rate: Rate) -> Node:
    """Return a query that matches the same rows, its parts in the order that costs the least."""
    if isinstance(node, Not):
        return Not(planned(node.part, rate))
    if isinstance(node, And):
        ranked = sorted((_cost(part), rate(part), place) for place, part in enumerate(node.parts))
        return And(tuple(planned(node.parts[place], rate) for _, _, place in ranked))
    if isinstance(node, Or):
        # A row that one part has found needs no look at the others.
        ranked = sorted((_cost(part), -rate(part), place) for place, part in enumerate(node.parts))
        return Or(tuple(planned(node.parts[place], rate) for _, _, place in ranked))
    return node


def _cost(node: Node) -> int:
    """Rank a node by what it costs to evaluate: columns, then literals, then patterns."""
    match node:
        case Text():
            return 1 + (not node.scope)
        case Pattern():
            return 3 + (not node.scope)
        case Not():
            return _cost(node.part)
        case And() | Or():
            return max(map(_cost, node.parts)) + 1
        case _:
            return 0
