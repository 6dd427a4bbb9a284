"""A comparison as one HTML page that needs no network, and as lines for the terminal.

Every text in it was written by a customer, a model or a provider: it is escaped, and what could steer a
terminal or reverse the reading direction is shown instead of done.
"""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from pathlib import Path

from tunedesk.core.conversations import content_text
from tunedesk.evaluate.comparing import Answer, CompareResult, Item
from tunedesk.evaluate.judging import INSTRUCTIONS, Judgement, Verdict
from tunedesk.evaluate.scores import Interval, ModelScore, follows
from tunedesk.paths import write_whole
from tunedesk.terminal import visible

_ROWS = (
    ("similarity", "Similarity to the people's answer", "chrF, 0 to 100; higher is nearer", "{:.1f}"),
    ("house_style", "House lines followed", "of those that the people's answer has", "{:.0%}"),
    ("length_ratio", "Length", "words, by words of the people's answer", "{:.2f}×"),
    ("first_token_s", "First word after", "seconds; lower is better", "{:.2f} s"),
    ("tokens_per_second", "Speed", "tokens a second after the first", "{:.1f}"),
)
"""Field of ModelScore, name, explanation, number format."""

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #2a8a4a; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 96rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; vertical-align: top; padding: .4rem .9rem; border-bottom: 1px solid var(--line); }
small, .range { opacity: .7; font-weight: normal; }
article { border: 1px solid var(--line); border-radius: .5rem; margin: 1.5rem 0; padding: 1rem; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; }
.prompt { background: var(--soft); padding: .6rem .8rem; border-radius: .4rem; margin: .4rem 0; }
.role { font-size: .8rem; opacity: .7; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1rem; margin-top: 1rem; }
.side h3 { margin: 0 0 .4rem; font-size: 1rem; overflow-wrap: anywhere; }
.rules { list-style: none; padding: 0; margin: .6rem 0 0; font-size: .85rem; }
.error { font-style: italic; }
"""


def write_report(
    result: CompareResult,
    path: Path,
    *,
    title: str = "Did it get better?",
    judgement: Judgement | None = None,
) -> None:
    """Write the whole comparison as one HTML file, atomically; raises StoreError when the disk refuses."""
    write_whole(path, _page(result, title, judgement), mode=0o644)


def summary(result: CompareResult) -> list[str]:
    """Return the outcome as plain lines for a terminal."""
    lines = [f"{len(result.items)} held-out prompts, {len(result.models)} models (95 % intervals)"]
    for score in result.scores:
        told = [
            f"{name.lower()} {_plain(value, form)}"
            for field, name, _, form in _ROWS
            if (value := getattr(score, field)) is not None
        ]
        failed = f"; {score.failed} without an answer" if score.failed else ""
        lines.append(f"{visible(score.model)}: " + ", ".join(told) + failed)
    for difference in result.differences:
        if difference.similarity is not None:
            lines.append(
                f"{visible(difference.model)} against {visible(result.models[0])}: "
                f"{_change(difference.similarity, '{:+.1f}')} similarity"
                + (
                    f", {_change(difference.house_style, '{:+.0%}')} house lines"
                    if difference.house_style
                    else ""
                )
            )
    return lines


def judged(result: CompareResult, judgement: Judgement) -> list[str]:
    """Return what a judge found, and how it was asked, as plain lines."""
    lines = []
    for model in result.models[1:]:
        rate, agreement = judgement.win_rate(model), judgement.agreement(model)
        if rate is None:
            lines.append(f"{visible(judgement.judge)} gave no verdict on {visible(model)}")
            continue
        sure = "" if rate.low > 0.5 or rate.high < 0.5 else ", which may be chance"
        steady = (
            ""
            if agreement is None
            else f"; the same verdict in both orders on {agreement:.0%} of the prompts"
        )
        lines.append(
            f"{visible(judgement.judge)} prefers {visible(model)} to {visible(result.models[0])} on "
            f"{_plain(rate, '{:.0%}')} of the prompts{sure}{steady}"
        )
    asked = len(judgement.verdicts)
    lines.append(
        f"judged blind, each pair in both orders: {asked} verdicts, {judgement.ties} ties, "
        f"{judgement.invalid} that could not be read and count for nobody"
    )
    return lines


def _plain(value: Interval, form: str) -> str:
    return f"{form.format(value.mean)} [{form.format(value.low)}, {form.format(value.high)}]"


def _change(value: Interval, form: str) -> str:
    sure = "" if value.low > 0 or value.high < 0 else ", which may be chance"
    return f"{_plain(value, form)}{sure}"


def _text(text: str) -> str:
    return html.escape(visible(text, keep="\n\t"), quote=True)


def _page(result: CompareResult, title: str, judgement: Judgement | None) -> str:
    told = summary(result)[1 + len(result.scores) :] + (judged(result, judgement) if judgement else [])
    answered = "".join(f"<li>{_text(line)}</li>" for line in told)
    said = judgement.verdicts if judgement else ()
    items = "".join(
        _article(result, index, item, [one for one in said if one.item == index])
        for index, item in enumerate(result.items)
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{_text(title)}</h1>
<p>{len(result.items)} held-out prompts, answered by {len(result.models)} models, beside what people wrote.
Written {time.strftime("%Y-%m-%d %H:%M")}.</p>
{_table(result)}
<ul>{answered}</ul>
{_rules(result)}
{_method(judgement)}
<h2>All answers</h2>
{items}
</body>
</html>
"""


def _table(result: CompareResult) -> str:
    head = "".join(f"<th>{_text(model)}</th>" for model in result.models)
    rows = "".join(
        f"<tr><th>{name}<br><small>{about}</small></th>"
        + "".join(_cell(score, field, form) for score in result.scores)
        + "</tr>"
        for field, name, about, form in _ROWS
    )
    counts = "".join(
        f"<td>{score.answered} of {score.answered + score.failed}</td>" for score in result.scores
    )
    return (
        f"<table><thead><tr><th>mean <small>and 95 % interval</small></th>{head}</tr></thead>"
        f"<tbody>{rows}<tr><th>Answered</th>{counts}</tr></tbody></table>"
    )


def _cell(score: ModelScore, field: str, form: str) -> str:
    value: Interval | None = getattr(score, field)
    if value is None:
        return "<td>–</td>"
    low, high = form.format(value.low), form.format(value.high)
    return f'<td>{form.format(value.mean)} <span class="range">[{low}, {high}]</span></td>'


def _rules(result: CompareResult) -> str:
    if not result.rules:
        return "<p>The people's answers share no opening, closing or label line.</p>"
    rules = "".join(
        f"<li>{rule.kind}: <q>{_text(rule.text)}</q> <small>in {rule.share:.0%} of the people's answers</small></li>"
        for rule in result.rules
    )
    return f"<h2>House lines</h2><ul>{rules}</ul>"


def _method(judgement: Judgement | None) -> str:
    if judgement is None:
        return ""
    usage = judgement.usage
    return (
        f"<h2>The judge</h2><p>{_text(judgement.judge)} was shown each pair of answers twice, once in each order, "
        f'without names, beside the people\'s answer, and told:</p><p class="said prompt">{_text(INSTRUCTIONS)}</p>'
        f"<p>It read {usage.prompt_tokens:,} and wrote {usage.completion_tokens:,} tokens.</p>"
    )


def _verdict(one: Verdict, first: str) -> str:
    found = {1.0: f"{one.model} is better", 0.5: "a tie", 0.0: f"{first} is better", None: "no verdict"}[
        one.score
    ]
    shown = f"{one.model} as A" if one.swapped else f"{first} as A"
    return (
        f'<li>{_text(found)} <small>({_text(shown)})</small><div class="said">{_text(one.words)}</div></li>'
    )


def _article(result: CompareResult, index: int, item: Item, said: Sequence[Verdict]) -> str:
    prompt = "".join(
        f'<div class="prompt"><div class="role">{_text(str(message.get("role", "")))}</div>'
        f'<div class="said">{_text(content_text(message.get("content")))}</div></div>'
        for message in item.messages
    )
    sides = "".join(_side(result, item, result.answer(index, model)) for model in result.models)
    reference = f'<div class="side"><h3>People</h3><div class="said">{_text(item.reference)}</div></div>'
    verdicts = "".join(_verdict(one, result.models[0]) for one in said)
    opened = f"<details><summary>Verdicts</summary><ul>{verdicts}</ul></details>" if verdicts else ""
    return (
        f'<article><h3>{index + 1}</h3>{prompt}<div class="sides">{sides}{reference}</div>{opened}</article>'
    )


def _side(result: CompareResult, item: Item, answer: Answer) -> str:
    marks = "".join(
        f"<li>{'✓' if follows(answer.text, rule) else '✗'} {rule.kind}: {_text(rule.text)}</li>"
        for rule in result.rules
        if follows(item.reference, rule)
    )
    error = f'<p class="error">{_text(answer.error)}</p>' if answer.error else ""
    weights = (
        f"<small>weights {_text(answer.system_fingerprint)}</small>" if answer.system_fingerprint else ""
    )
    return (
        f'<div class="side"><h3>{_text(answer.model)}</h3><div class="said">{_text(answer.text)}</div>'
        f'{error}<ul class="rules">{marks}</ul>{weights}</div>'
    )
