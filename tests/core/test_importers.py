"""Files as people have them become rows, and nothing is left out without a line and a reason."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tunedesk.core.conversations import Row
from tunedesk.core.importing import importers, sources
from tunedesk.core.importing.report import Report
from tunedesk.errors import DataError

Write = Callable[[str | bytes], Path]
Imported = tuple[list[Row], Report]

CHAT = [{"role": "user", "content": "Where is my card?"}, {"role": "assistant", "content": "On its way."}]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(content: str | bytes) -> Path:
        path = tmp_path / "data.bin"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put


def load(path: Path, **options: Any) -> Imported:
    found = importers.read(path, **options)
    rows = [source.row for source in found]
    assert found.report.imported == len(rows)
    assert found.report.rows == len(rows) + len(found.report.skipped)
    return rows, found.report


def says(row: Row) -> list[tuple[str, str]]:
    return [(m["role"], m.get("content", "")) for m in row["messages"]]


PAIR = [("user", "Where is my card?"), ("assistant", "On its way.")]
SHAREGPT = {
    "id": "a",
    "conversations": [{"from": "human", "value": PAIR[0][1]}, {"from": "gpt", "value": PAIR[1][1]}],
}
TURNS = "ticket_id,author_role,body\n7,Customer,Where is my card?\n7,Agent,On its way.\n"
SAMPLES: dict[str, str] = {
    "openai": json.dumps({"messages": CHAT}),
    "preference": json.dumps(
        {"input": {"messages": CHAT[:1]}, "preferred_output": CHAT[1:], "non_preferred_output": CHAT[1:]}
    ),
    "call": json.dumps({"request": {"messages": CHAT[:1]}, "response": {"choices": [{"message": CHAT[1]}]}}),
    "completion": json.dumps({"prompt": "Where is my card?\n\n###\n\n", "completion": " On its way. END"}),
    "sharegpt": json.dumps([SHAREGPT], indent=2),
    "alpaca": json.dumps([{"instruction": "Where is my card?", "input": "", "response": "On its way."}]),
    "dialogue": json.dumps([{"original": [["customer", PAIR[0][1]], ["agent", PAIR[1][1]]]}]),
    "transcript": json.dumps({"log_text": "Customer: Where is my card?\nAgent: On its way."}),
    "pairs": "question;answer\nWhere is my card?;On its way.\n",
    "ticket": json.dumps(
        {
            "requester_id": 5,
            "comments": [
                {"author_id": 5, "public": True, "body": PAIR[0][1]},
                {"author_id": 9, "public": False, "body": "a note"},
                {"author_id": 9, "public": True, "html_body": "<p>On its way.</p>"},
            ],
        }
    ),
    "turns": TURNS,
}


@pytest.mark.parametrize("name", importers.IMPORTERS)
def test_every_format_is_told_by_content_and_read(name: str, write: Write) -> None:
    path = write(SAMPLES[name])
    assert importers.detect(path) == name
    rows, report = load(path)
    assert (report.rows, report.imported) == (1, 1)
    assert name == "preference" or says(rows[0]) == PAIR


@pytest.mark.parametrize("name", importers.IMPORTERS)
def test_every_format_is_read_from_gzip_as_from_the_plain_file(name: str, write: Write) -> None:
    plain = load(write(SAMPLES[name]))[0]
    assert load(write(gzip.compress(SAMPLES[name].encode())))[0] == plain


@pytest.mark.parametrize("name", importers.IMPORTERS)
def test_every_format_can_be_named(name: str, write: Write) -> None:
    assert load(write(SAMPLES[name]), format=name)[1].format == name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_are_told_by_content(encoding: str, write: Write) -> None:
    text = "question,answer\r\nWo ist meine Kärte?,Überwiesen – ja.\r\n"
    rows, _ = load(write(text.encode(encoding)))
    assert says(rows[0]) == [("user", "Wo ist meine Kärte?"), ("assistant", "Überwiesen – ja.")]


def test_lines_that_are_not_utf8_are_read_as_windows_1252_with_a_note(write: Write) -> None:
    rows, report = load(write("question,answer\nCafé?,“Oui”\n".encode("cp1252")))
    assert says(rows[0]) == [("user", "Café?"), ("assistant", "“Oui”")]
    assert "not UTF-8, read as Windows-1252: 1 lines" in report.notes


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(SAMPLES["openai"].encode())

    monkeypatch.setattr("sys.stdin", Stdin())
    assert [source.row["messages"] for source in importers.read("-")] == [CHAT]


def test_a_cut_gzip_gives_what_came_before_the_cut(write: Write) -> None:
    lines = [json.dumps({"messages": CHAT, "n": f"{i} {hash(str(i))}"}) for i in range(2000)]
    whole = gzip.compress("\n".join(lines).encode())
    rows, report = load(write(whole[: len(whole) // 2]))
    assert 100 < len(rows) < 2000
    assert any("cut" in note for note in report.notes)
    assert report.imported + len(report.skipped) == report.rows


def test_broken_lines_are_skipped_with_line_and_reason_and_blank_ones_counted(write: Write) -> None:
    good = json.dumps({"messages": CHAT})
    text = "\n".join(
        [good, '{"messages": [', "", "[1]", '"text"', '{"a": NaN}', "[" * 100_000, '{"x": 1}', good, ""]
    )
    found = importers.read(write(text))
    assert [source.line for source in found] == [1, 9]
    report = found.report
    assert [s.line for s in report.skipped] == [2, 4, 5, 6, 7, 8]
    assert report.blank_lines == 1
    assert (report.rows, report.imported) == (8, 2)
    assert "NaN" in report.skipped[3].reason


def test_openai_rows_pass_unchanged_even_when_wrong(write: Write) -> None:
    row = {"messages": [{"role": "usr", "content": 3}], "extra": [None], "metadata": {"intent": "x"}}
    assert load(write(json.dumps(row) + "\n" + json.dumps({"messages": "no"})))[0] == [
        row,
        {"messages": "no"},
    ]


def test_lone_surrogates_become_a_visible_replacement(write: Write) -> None:
    rows, _ = load(write('{"messages": [{"role": "user", "content": "a\\ud83d"}]}'))
    assert rows[0]["messages"][0]["content"] == "a\ufffd"


def test_consecutive_turns_are_merged_and_tails_dropped_and_both_counted(write: Write) -> None:
    turns = [
        ("AGENT", "Hi!"),
        ("agent", "How can I help?"),
        ("Customer", "Card lost."),
        ("action", "looked up"),
    ]
    turns += [("agent", "Blocked."), ("customer", "Thanks"), ("customer", "bye")]
    rows, report = load(write(json.dumps([{"id": 5, "original": turns}])))
    assert says(rows[0]) == [
        ("assistant", "Hi!\nHow can I help?"),
        ("user", "Card lost."),
        ("assistant", "Blocked."),
    ]
    kept = rows[0]["metadata"]
    assert kept == {"id": 5, "merged_turns": 2, "dropped_tail": 1, "asides": ["looked up"]}
    assert (report.merged_turns, report.dropped_tails) == (2, 1)


def test_sharegpt_tools_calls_and_observations_become_openais(write: Write) -> None:
    record = {
        "conversations": [
            {"from": "human", "value": "Rain?"},
            {"from": "function_call", "value": '{"name": "rain", "arguments": {"day": 1}}'},
            {"from": "observation", "value": '{"mm": 3}'},
            {"from": "gpt", "value": "Yes."},
        ],
        "tools": '[{"name": "rain", "parameters": {}}]',
        "system": "Be brief.",
    }
    row = load(write(json.dumps([record])))[0][0]
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant", "tool", "assistant"]
    call = row["messages"][2]["tool_calls"][0]
    assert call == {
        "id": "call_1",
        "type": "function",
        "function": {"name": "rain", "arguments": '{"day": 1}'},
    }
    assert row["messages"][3]["tool_call_id"] == "call_1"
    assert row["tools"] == [{"type": "function", "function": {"name": "rain", "parameters": {}}}]


def test_interleaved_tickets_are_regrouped_in_order_and_notes_skipped(write: Write) -> None:
    text = (
        "Ticket ID,Created At,Author Role,Is Private,Body,Category\n"
        "1,2024-01-01 10:00,end-user,false,Card lost,cards\n"
        "2,2024-01-01 10:01,end-user,false,Fee?,fees\n"
        "1,2024-01-01 10:05,agent,true,VIP customer,cards\n"
        "1,2024-01-01 10:09,agent,false,Blocked.,cards\n"
        '2,2024-01-01 10:04,agent,false,"None,\nfree.",fees\n'
        "1,2024-01-01 10:07,end-user,false,Hello?,cards\n"
        "3,2024-01-01 10:08,end-user,false,Anyone?,cards\n"
    )
    found = importers.read(write(text))
    rows = list(found)
    assert [says(source.row) for source in rows] == [
        [("user", "Card lost\nHello?"), ("assistant", "Blocked.")],
        [("user", "Fee?"), ("assistant", "None,\nfree.")],
    ]
    assert rows[0].row["metadata"]["intent"] == "cards"
    assert [(s.line, s.reason) for s in found.report.skipped] == [
        (4, "an internal note"),
        (9, "the agent says nothing in it"),
    ]
    assert found.report.rows == 4


def test_inbound_true_is_the_customer(write: Write) -> None:
    text = "conversation_id,inbound,text\n1,True,Hi\n1,False,Hello\n2,True,Hi\n2,False,Yes?\n"
    assert says(load(write(text))[0][1]) == [("user", "Hi"), ("assistant", "Yes?")]


def test_speakers_can_be_named_by_map(write: Write) -> None:
    text = "thread,who,said\n1,Ann,Card?\n1,Bob,Here.\n1,Cy,Thanks\n"
    mapping = {
        "conversation": "thread",
        "speaker": "who",
        "text": "said",
        "user": "Ann|Cy",
        "assistant": "bob",
    }
    assert says(load(write(text), mapping=mapping)[0][0]) == [("user", "Card?"), ("assistant", "Here.")]


def test_a_table_with_one_side_only_is_refused_with_the_way_out(write: Write) -> None:
    with pytest.raises(DataError, match="no column says who speaks") as caught:
        load(write("conversationId,turn,utterance\n1,0,hi\n1,2,card lost\n"))
    assert "--map speaker=COLUMN" in caught.value.hint


def test_unknown_columns_are_asked_about_and_mapped(write: Write) -> None:
    text = "text,category\nWhere is my card?,card_arrival\n"
    with pytest.raises(DataError, match="no known format") as caught:
        load(write(text))
    assert "text, category" in caught.value.hint
    rows, _ = load(write(text), mapping={"user": "text", "assistant": "category"}, system="Classify.")
    assert says(rows[0]) == [
        ("system", "Classify."),
        ("user", "Where is my card?"),
        ("assistant", "card_arrival"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_pairs_with_any_delimiter_and_line_breaks_in_cells(delimiter: str, write: Write) -> None:
    lines = [
        ["id", "Customer Message", "Agent Reply", "intent"],
        ["1", '"a\nb, c; d"', '"x ""y"""', "fee"],
        ["2", "q"],
    ]
    rows, report = load(write("\n".join(delimiter.join(line) for line in lines)))
    assert says(rows[0]) == [("user", "a\nb, c; d"), ("assistant", 'x "y"')]
    assert rows[0]["metadata"] == {"id": "1", "intent": "fee"}
    assert [(s.line, s.reason) for s in report.skipped] == [(4, "it has 2 cells where the header has 4")]


def test_a_quote_left_open_does_not_swallow_the_rows_after_it(write: Write) -> None:
    found = importers.read(write('question,answer\n"open, a\nb,c\n"d\nd","e"\n"open again, f\ng,h\n'))
    assert [(source.line, says(source.row)) for source in found] == [
        (3, [("user", "b"), ("assistant", "c")]),
        (4, [("user", "d\nd"), ("assistant", "e")]),
        (7, [("user", "g"), ("assistant", "h")]),
    ]
    assert [skipped.line for skipped in found.report.skipped] == [2, 6]


def test_a_file_of_open_quotes_ends(write: Write) -> None:
    _, report = load(write("question,answer\n" + '"a\n' * 20_000))
    assert report.imported == 0


def test_a_column_of_whole_transcripts_is_read(write: Write) -> None:
    text = 'issue,conversation\ncards,"Agent: Hello\nCustomer: Where is my card?\nAgent: On its way."\n'
    rows, report = load(write(text))
    assert report.format == "transcript"
    assert says(rows[0]) == [("assistant", "Hello"), *PAIR]


def test_events_of_a_ticket_are_no_system_prompts(write: Write) -> None:
    text = "ticket_id,author,body\n1,Customer,Where is my card?\n1,System,Status: open\n1,Agent,On its way.\n"
    row = load(write(text))[0][0]
    assert says(row) == PAIR
    assert row["metadata"]["asides"] == ["Status: open"]


def test_nulls_that_parquet_adds_are_no_keys(write: Write) -> None:
    buffer = io.BytesIO()
    messages = [{**CHAT[0], "name": "ann"}, CHAT[1]]
    pl.DataFrame({"messages": [messages], "tools": [None]}).write_parquet(buffer)
    assert load(write(buffer.getvalue()))[0] == [{"messages": messages}]


@pytest.mark.parametrize("turns", [CHAT, [["customer", PAIR[0][1]], ["agent", PAIR[1][1]]]])
def test_an_array_that_is_one_dialogue_is_one_row(turns: list[Any], write: Write) -> None:
    assert [says(row) for row in load(write(json.dumps(turns)))[0]] == [PAIR]


def test_replies_that_name_their_parent_are_threaded(write: Write) -> None:
    text = (
        "tweet_id,author_id,inbound,text,in_response_to_tweet_id\n"
        "1,bank,False,Blocked.,3\n2,115,True,thanks,1\n3,115,True,Card lost,4\n4,bank,False,Hello?,5\n"
        "5,115,True,Hi,\n6,bank,False,Free.,7\n7,9,True,Fee?,8\n8,9,True,loop,7\n"
    )
    rows, report = load(write(text))
    assert says(rows[0]) == [
        ("user", "Hi"),
        ("assistant", "Hello?"),
        ("user", "Card lost"),
        ("assistant", "Blocked."),
    ]
    assert rows[0]["metadata"]["dropped_tail"] == 1
    assert report.rows == report.imported + len(report.skipped)


def test_parquet_is_read_by_content(write: Write) -> None:
    buffer = io.BytesIO()
    pl.DataFrame(
        {"question": ["Where is my card?"], "answer": ["On its way."], "label": ["cards"]}
    ).write_parquet(buffer)
    rows, _ = load(write(buffer.getvalue()))
    assert says(rows[0]) == PAIR
    assert rows[0]["metadata"]["intent"] == "cards"


def star(level: str) -> dict[str, Any]:
    said = [("UserGuide", "instruct", "You lost it"), ("User", "utter", PAIR[0][1]), ("Wizard", "query", "x")]
    said += [
        ("KnowledgeBase", "return_item", "x"),
        ("Wizard", "pick_suggestion", PAIR[1][1]),
        ("User", "complete", ""),
    ]
    events = [{"Agent": agent, "Action": action, "Text": text} for agent, action, text in said]
    scenario = {"WizardTask": "Help.", "WizardCapabilities": [{"Task": "bank_fraud"}]}
    return {"CompletionLevel": level, "Events": events, "Scenario": scenario}


def test_a_zip_of_dialogues_is_read_file_by_file(write: Write) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("d/10.json", json.dumps(star("Complete"), indent=2))
        archive.writestr("d/9.json", json.dumps(star("Disconnect")))
        archive.writestr("d/11.json", "{broken")
        archive.writestr("__MACOSX/d/10.json", "junk")
    rows, report = load(write(buffer.getvalue()))
    assert says(rows[0]) == [("system", "Help."), *PAIR]
    assert rows[0]["metadata"]["intent"] == "bank_fraud"
    assert rows[0]["metadata"]["file"] == "d/10.json"
    assert [s.line for s in report.skipped] == [1, 3]
    assert "unfinished" in report.skipped[0].reason
    assert "d/11.json" in report.skipped[1].reason


def test_a_folder_of_transcripts_is_read_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "chats").mkdir()
    (tmp_path / "chats" / "1.txt").write_text(
        "[10:00] Customer: Where is my card?\n[10:01] Agent (Ann): On its\nway.\n"
    )
    (tmp_path / "chats" / ".hidden").write_text("x")
    assert says(load(tmp_path / "chats")[0][0]) == [PAIR[0], ("assistant", "On its\nway.")]


def test_a_file_that_vanishes_from_a_folder_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("Customer: q\nAgent: a\n", encoding="utf-8")
    found = importers.read(tmp_path)
    opened = sources.Source.open

    def open_and_lose(path: Path, *more: Any) -> sources.Source:
        (tmp_path / "b.txt").unlink(missing_ok=True)
        return opened(path, *more)

    monkeypatch.setattr(sources.Source, "open", open_and_lose)
    assert len(list(found)) == 1
    assert [(one.line, "cannot be read" in one.reason) for one in found.report.skipped] == [(2, True)]


@pytest.mark.parametrize("rule", ["\n", "-----\n", "Conversation 2\n"])
def test_one_text_file_holds_several_transcripts(rule: str, write: Write) -> None:
    talk = "Customer: Where is my card?\nJane: On its way.\n"
    rows, _ = load(write(talk.replace("Jane", "Agent") + rule + talk.replace("Jane", "Agent")))
    assert [says(row) for row in rows] == [PAIR, PAIR]


def test_one_unknown_speaker_beside_a_customer_is_the_agent(write: Write) -> None:
    turns = [{"speaker": "Customer", "text": PAIR[0][1]}, {"speaker": "Jane Roe", "text": PAIR[1][1]}]
    assert says(load(write(json.dumps({"turns": turns})))[0][0]) == PAIR


def test_a_system_that_answers_is_the_assistant(write: Write) -> None:
    turns = [{"speaker": "USER", "utterance": PAIR[0][1]}, {"speaker": "SYSTEM", "utterance": PAIR[1][1]}]
    assert says(load(write(json.dumps([{"turns": turns}])))[0][0]) == PAIR


def test_chosen_and_rejected_become_a_preference_row(write: Write) -> None:
    rows, report = load(write(json.dumps({"prompt": "Q", "chosen": "good", "rejected": "bad"})))
    assert rows[0] == {
        "input": {"messages": [{"role": "user", "content": "Q"}]},
        "preferred_output": [{"role": "assistant", "content": "good"}],
        "non_preferred_output": [{"role": "assistant", "content": "bad"}],
    }
    assert report.kinds == {"preference": 1}


def test_an_object_of_splits_is_unwrapped(write: Write) -> None:
    record = {"original": [["customer", PAIR[0][1]], ["agent", PAIR[1][1]]]}
    assert len(load(write(json.dumps({"train": [record, record], "dev": [record]})))[0]) == 3


def test_a_system_prompt_is_added_only_where_there_is_none(write: Write) -> None:
    with_one = {"messages": [{"role": "system", "content": "Mine"}, *CHAT]}
    rows, _ = load(write(json.dumps({"messages": CHAT}) + "\n" + json.dumps(with_one)), system="New")
    assert [row["messages"][0]["content"] for row in rows] == ["New", "Mine"]


def test_an_unreadable_path_and_an_unknown_format_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="not a format"):
        importers.read(tmp_path, format="yaml")


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\0" * 1000, b"PK\x03\x04junk", b"PAR1junk", b"\x1f\x8bjunk"]
)
def test_hostile_files_end_in_rows_or_a_data_error(content: bytes, write: Write) -> None:
    refused = False
    try:
        rows, _ = load(write(content))
    except DataError:
        refused = True
    assert refused or rows == []


def test_records_that_lack_the_formats_keys_are_skipped_with_the_reason(write: Write) -> None:
    wrong = [{"output": "A"}, {"instruction": "", "output": "A"}, {"instruction": "Q"}, {"other": 1}, 3, None]
    rows, report = load(write(json.dumps([{"instruction": "Q", "output": "A"}, *wrong])))
    assert len(rows) == 1
    assert [skipped.reason for skipped in report.skipped][:2] == [
        "it has no instruction",
        "the customer's side is empty",
    ]
    assert (report.rows, len(report.skipped)) == (7, 6)


def test_a_file_whose_first_records_are_all_broken_is_still_read(write: Write) -> None:
    rows, report = load(write("{broken\n" * 300 + json.dumps({"messages": CHAT})))
    assert len(rows) == 1
    assert len(report.skipped) == 300


def test_progress_reaches_the_size_of_the_file(write: Write) -> None:
    seen: list[tuple[int, int]] = []
    path = write(SAMPLES["openai"])
    load(path, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
