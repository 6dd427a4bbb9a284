"""Tables as people and programs write them: any delimiter, quotes, header and language, nothing guessed silently."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunedesk.core.conversations import Row
from tunedesk.core.importing import importers
from tunedesk.core.importing.report import Report
from tunedesk.errors import DataError

Read = Callable[..., tuple[list[Row], Report]]
Q, A = "Where is my card?", "On its way."


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def put(content: str | bytes, **options: Any) -> tuple[list[Row], Report]:
        path = tmp_path / "data.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        found = importers.read(path, **options)
        rows = [source.row for source in found]
        assert found.report.rows == len(rows) + len(found.report.skipped)
        return rows, found.report

    return put


def texts(row: Row) -> list[str]:
    return [message["content"] for message in row["messages"]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "^", "~", "\x1f"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends(delimiter: str, newline: str, read: Read) -> None:
    lines = ["question\0answer\0", '"where, is; it"\0here\0', '"two\nlines"\0"a ""b"" c"\0']
    rows, report = read("\n".join(lines).replace("\0", delimiter).replace("\n", newline))
    assert texts(rows[0])[1] == "here"
    assert texts(rows[1]) == ["two\nlines", 'a "b" c']
    assert report.skipped == []


@pytest.mark.parametrize(
    "header",
    [
        "Frage;Antwort", '"FRAGE";"ANTWORT"', "Kunde;Berater", "Kundennachricht;Agentenantwort", "Pregunta;Respuesta",
        "Question ;Réponse", "Pergunta;Resposta", "Domanda;Risposta", "Pytanie;Odpowiedź", "Вопрос;Ответ",
        "问题;回答", "質問;回答", "Vraag;Antwoord", "Soru;Cevap", "प्रश्न;उत्तर", "سؤال;جواب", "질문;답변", "Fråga;Svar",
        "Spørgsmål;Svar", "Kysymys;Vastaus", "prompt;response", "instruction;output", "customer_message;agent_reply",
        "Customer's message;Agent's reply", "CUSTOMER MESSAGE;AGENT REPLY", "userMessage;botResponse", "human;gpt",
        "query;response", "input;output", "Message of customer;Reply by agent", "text_user;text_assistant",
        "Patient;Doctor", "inputs;targets", "Description;Resolution__c",
    ],
)  # fmt: skip
def test_headers_in_many_words_and_languages(header: str, read: Read) -> None:
    assert texts(read(f"{header}\n{Q};{A}\n")[0][0]) == [Q, A]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "cp1250", "iso8859-15"]
)
def test_western_encodings(encoding: str, read: Read) -> None:
    asked = (
        "Wo ist die Kärte für Ümläute?" if encoding != "cp1250" else "Chciałbym wiedzieć, gdzie są pieniądze"
    )
    rows, _ = read(f"question;answer\n{asked};{A}\n".encode(encoding))
    assert texts(rows[0]) == [asked, A]


@pytest.mark.parametrize(
    ("encoding", "asked"),
    [
        ("cp1251", "где моя карта, она ещё не пришла"), ("koi8-r", "где моя карта, она ещё не пришла"),
        ("gb18030", "卡在哪里呢"), ("big5", "請問我的信用卡什麼時候會寄到"), ("cp932", "カードはどこですか"),
        ("euc_jp", "カードはどこですか"), ("cp949", "카드가 어디 있나요"),
    ],
)  # fmt: skip
def test_other_old_encodings_are_told_by_their_letters(encoding: str, asked: str, read: Read) -> None:
    rows, report = read(f'question,answer\n"{asked}",{A}\n'.encode(encoding))
    assert texts(rows[0]) == [asked, A]
    assert any("not UTF-8, read as" in note for note in report.notes)


@pytest.mark.parametrize(
    ("content", "passed"),
    [
        ("Export of 2024-01-01\nTotal: 2 tickets\n\nquestion,answer\nq,a\n", 2),
        ("# made by a program\nquestion,answer\nq,a\n", 1),
        ("Report,,\nFrom:,2024-01-01,\nid,question,answer\n1,q,a\n", 2),
        ("sep=;\nquestion;answer\nq;a\n", 0),
    ],
)
def test_lines_before_the_header_are_passed_over_and_counted(content: str, passed: int, read: Read) -> None:
    rows, report = read(content)
    assert texts(rows[0]) == ["q", "a"]
    assert (f"{passed} lines before the header passed over" in report.notes) == (passed > 0)


def test_a_table_without_a_header_loses_no_row_and_says_what_was_guessed(read: Read) -> None:
    content = f'{Q},{A}\nHow are fees charged?,Monthly by debit.\nCan I close it?,"Yes, any time."\n'
    rows, report = read(content)
    assert [texts(row)[0] for row in rows] == [Q, "How are fees charged?", "Can I close it?"]
    assert "there is no header" in report.guessed
    assert any("guessed" in note for note in report.notes)


def test_a_table_without_a_header_is_asked_about_when_nothing_tells_the_sides(read: Read) -> None:
    content = "1,The card is lost.,It was blocked.\n2,The fee is wrong.,It was paid back.\n"
    with pytest.raises(DataError, match="reads like data") as caught:
        read(content)
    assert "--map user=column_2,assistant=column_3" in caught.value.hint
    rows, report = read(content, mapping={"user": "column_2", "assistant": "column_3"})
    assert len(rows) == 2
    assert report.guessed == ""


def test_unknown_names_are_guessed_only_when_one_column_asks(read: Read) -> None:
    asked = "Xx;Yy\nWhere is it?;It is on its way.\nWhen does it come?;It comes on Monday.\nWhy so late?;It was snow.\n"
    rows, report = read(asked)
    assert texts(rows[0]) == ["Where is it?", "It is on its way."]
    assert "'Xx' asks" in report.guessed
    with pytest.raises(DataError, match="no known format"):
        read(
            "Xx;Yy\nThe card is lost.;It was blocked.\nA fee was wrong.;It was paid back.\nHello there.;Good day.\n"
        )


@pytest.mark.parametrize(
    "content",
    [
        "text,label\nWhere is my card?,card_arrival\nAnd my fee?,fees\n",
        "a,b\n1,2\n3,4\n",
        "id,text,text\n1,q,a\n",
        "question\nWhere is it?\nAnd now?\n",
    ],
)
def test_what_is_no_conversation_is_refused_with_the_columns(content: str, read: Read) -> None:
    with pytest.raises(DataError, match="no known format") as caught:
        read(content)
    assert content[: content.index("\n")].replace(",", ", ")[:6] in caught.value.hint
    assert "--map user=" in caught.value.hint


def test_wrong_maps_are_told_with_the_columns_there_are(read: Read) -> None:
    with pytest.raises(DataError, match="no column 'frage'") as caught:
        read("question,answer\nq,a\n", mapping={"user": "frage", "assistant": "answer"})
    assert "question, answer" in caught.value.hint
    with pytest.raises(DataError, match="does not know 'frage'") as caught:
        read("question,answer\nq,a\n", mapping={"frage": "question"})
    assert "user, assistant" in caught.value.hint
    rows, _ = read("My Q,The A\nq,a\n", mapping={"user": "my q", "assistant": "THE A"})
    assert texts(rows[0]) == ["q", "a"]


@pytest.mark.parametrize(
    "content",
    [
        'question, answer\n"where, now", "here, there"\n',
        "'question','answer'\n'where, now','here, there'\n",
        ',question,answer\n0,"where, now","here, there"\n',
        'question,answer,\n"where, now","here, there",\n',
        'question,answer\n"where, now","here, there",\n',
    ],
)
def test_quotes_blanks_and_edges(content: str, read: Read) -> None:
    assert texts(read(content)[0][0]) == ["where, now", "here, there"]


def test_quotes_that_are_escaped_by_backslashes_or_mean_nothing(read: Read) -> None:
    assert (
        texts(read('question,answer\n"he said \\"hi\\", ok","a"\n"q2","a2"\n')[0][0])[0] == 'he said "hi", ok'
    )
    rows, _ = read('question\tanswer\n"open\ta\nsize 5 tv\tb" c\n')
    assert [texts(row) for row in rows] == [['"open', "a"], ["size 5 tv", 'b" c']]


def test_ragged_rows_and_empty_cells_are_skipped_with_the_reason(read: Read) -> None:
    rows, report = read("question,answer\nq,a\nq2\n\nq3,a3,x\nq4,NULL\n,a5\n,\nTotal: 6\n")
    assert len(rows) == 1
    assert [(one.line, one.reason) for one in report.skipped] == [
        (3, "it has 1 cells where the header has 2"),
        (5, "it has 3 cells where the header has 2"),
        (6, "the answer is empty"),
        (7, "the customer's side is empty"),
        (9, "it has 1 cells where the header has 2"),
    ]
    assert report.blank_lines == 2


def test_very_long_cells_and_nul_are_kept(read: Read) -> None:
    long = "line\n" * 60_000
    rows, _ = read("question,answer\nq\0x," + "x" * 300_000 + '\nq2,"' + long + '"\n')
    assert texts(rows[0]) == ["q\0x", "x" * 300_000]
    assert len(texts(rows[1])[1]) == 5 * 60_000 - 1


@pytest.mark.parametrize("content", ["", "\n\n", "question,answer\n", "\ufeff"])
def test_nothing_in_it_is_nothing_imported(content: str, read: Read) -> None:
    assert read(content)[0] == []


@pytest.mark.parametrize("written", [json.dumps, str, lambda turns: str(turns).replace("}, {", "}\n {")])
@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_a_cell_that_holds_a_list_of_messages(written: Any, column: str, read: Read) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    cell = written(turns).replace('"', '""')
    assert texts(read(f'id,{column}\n1,"{cell}"\n')[0][0]) == ["q", "a"]


@pytest.mark.parametrize(
    "text",
    [
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>",
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nq [/INST] a </s>",
        "Be kind.\n### Human: q ### Assistant: a",
        "<|system|>\nBe kind.</s>\n<|user|>\nq</s>\n<|assistant|>\na</s>",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\na<|eot_id|>",
        "System: Be kind.\nUser: q\nAssistant: a",
    ],
)
def test_a_column_of_texts_with_a_models_marks(text: str, read: Read) -> None:
    rows, report = read('id,text\n1,"{}"\n'.format(text.replace('"', '""')))
    assert report.format == "transcript"
    assert [(m["role"], m["content"]) for m in rows[0]["messages"]] == [
        ("system", "Be kind."), ("user", "q"), ("assistant", "a"),
    ]  # fmt: skip


def test_alpaca_headings_join_instruction_and_input(read: Read) -> None:
    text = "Below is an instruction that describes a task.\n\n### Instruction:\nSum up\n\n"
    text += "### Input:\nx\n\n### Response:\na"
    assert texts(read(f'text\n"{text}"\n')[0][0]) == ["Sum up\n\nx", "a"]


def test_a_conversation_laid_out_in_numbered_columns(read: Read) -> None:
    rows, _ = read("id,user_1,assistant_1,user_2,assistant_2\n1,q,a,q2,a2\n2,q,a,,\n")
    assert [texts(row) for row in rows] == [["q", "a", "q2", "a2"], ["q", "a"]]


def test_html_becomes_text_where_it_is_not_spoken_about(read: Read) -> None:
    rows, _ = read(
        "question,answer\n<p>Hi &amp; hello<br>you</p>,<div>yes</div>\nshow <b>x</b>,use <br> then\n"
    )
    assert texts(rows[0]) == ["Hi & hello\nyou", "yes"]
    assert texts(rows[1]) == ["show <b>x</b>", "use <br> then"]
    rows, _ = read("question,answer\nHow do I pay?,<p>By <b>card</b></p>\nHow do I write html?,<p>so</p>\n")
    assert [texts(row)[1] for row in rows] == ["By card", "<p>so</p>"]


@pytest.mark.parametrize(
    "cell",
    [
        "Customer: q<br>Agent: a",
        "[10:00] Ann (Customer): q\n[10:01] Bob (Agent): a",
        "<p>Customer: q</p><p>Agent: a</p>",
    ],
)
def test_a_whole_chat_in_one_cell(cell: str, read: Read) -> None:
    assert texts(read(f'id,chat\n1,"{cell}"\n')[0][0]) == ["q", "a"]


EXCHANGES = {
    "in order": "conversation_id,customer,agent\n1,Where is it?,Which one?\n1,The red one.,There.\n2,Why?,So.\n",
    "by turn": "dialogue_id,turn,user,assistant\n1,2,The red one.,There.\n1,1,Where is it?,Which one?\n2,1,Why?,So.\n",
    "one side a row": "chat_id,customer_message,agent_message\n1,Where is it?,\n1,,Which one?\n1,The red one.,NULL\n"
    "1,,There.\n2,Why?,\n2,,So.\n",
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_exchanges_of_one_conversation_are_put_together(name: str, read: Read) -> None:
    rows, report = read(EXCHANGES[name])
    assert [texts(row) for row in rows] == [
        ["Where is it?", "Which one?", "The red one.", "There."],
        ["Why?", "So."],
    ]
    assert (report.format, report.guessed, report.skipped) == ("turns", "", [])
    assert not {"customer", "agent", "user", "assistant"} & set(rows[0]["metadata"])


def test_what_may_be_a_subject_is_asked_about_and_a_unique_id_changes_nothing(read: Read) -> None:
    rows, report = read("case,question,answer\nfees,Where is it?,There.\nfees,Why?,So.\n")
    assert len(rows) == 1
    assert "'case'" in report.guessed
    rows, report = read("case,question,answer\n1,Where is it?,There.\n2,Why?,So.\n")
    assert (len(rows), report.format, report.guessed) == (2, "pairs", "")
    rows, _ = read("category,question,answer\nfees,Where is it?,There.\nfees,Why?,So.\n")
    assert len(rows) == 2
    lines = "".join(f"1,Where is it, number {n}?,There.\n" for n in range(40)).replace("it,", "it")
    assert len(read(f"thread,question,answer\n{lines}")[0]) == 40
    rows, report = read("topic_no,question,answer\n1,Where?,There.\n1,,\n1,Why?,So.\n",
                        mapping={"conversation": "topic_no", "user": "question", "assistant": "answer"})  # fmt: skip
    assert (len(rows), [one.line for one in report.skipped]) == (1, [3])


def test_a_name_over_two_columns_that_are_used_is_told(read: Read) -> None:
    rows, report = read("answer,question,answer\nHere.,Where is it?,There.\n")
    assert texts(rows[0]) == ["Where is it?", "Here."]
    assert "'answer'" in report.guessed


def test_lines_of_a_name_and_a_date_above_the_header_are_passed_over(read: Read) -> None:
    rows, _ = read("Tickets\nCreated;2024-01-01\n\nquestion;answer\nWhere is it?;There.\nWhy?;So.\n")
    assert texts(rows[0]) == ["Where is it?", "There."]


def test_a_column_of_times_is_nobodys_side(read: Read) -> None:
    lines = [
        f"2004-11-23T11:{n:02}:00.000Z\tann\tbob\tCan you see why number {n} is so slow?" for n in range(9)
    ]
    with pytest.raises(DataError, match="reads like data"):
        read("\n".join(lines))


def test_a_column_of_zeros_and_ones_tells_the_agent(read: Read) -> None:
    rows, _ = read("session_id\twaiter_send\tcontent\ns1\t0\t在吗？\ns1\t1\t在的。\n")
    assert [m["role"] for m in rows[0]["messages"]] == ["user", "assistant"]


def test_a_table_of_times_and_subjects_is_no_chat(read: Read) -> None:
    lines = [
        f"2024-01-0{n},{'Re' if n % 2 else 'Fwd'}: my order,Where is order {n}?,It is here."
        for n in range(1, 9)
    ]
    rows, _ = read("date,subject,question,answer\n" + "\n".join(lines))
    assert len(rows) == 8


def test_the_rule_of_a_markdown_table_and_a_header_met_again_are_no_conversations(read: Read) -> None:
    rows, report = read("| question | answer |\n|:---|---|\n| Where is it? | There. |\n| Why? | So. |\n")
    assert [texts(row) for row in rows] == [["Where is it?", "There."], ["Why?", "So."]]
    assert report.skipped == []
    rows, report = read("question,answer\nWhere is it?,There.\nquestion,answer\nWhy?,So.\n")
    assert len(rows) == 2
    assert [(one.line, one.reason) for one in report.skipped] == [(3, "it is the header again")]


def test_blanks_before_quotes_are_told_by_a_single_row(read: Read) -> None:
    rows, _ = read('question, answer\n"Where, is it?", "There."\n')
    assert texts(rows[0]) == ["Where, is it?", "There."]
