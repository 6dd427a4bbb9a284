"""Personal data: what is found, what is left alone, and that placeholders are stable and reversible."""

from __future__ import annotations

import copy
import csv
import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
from stdnum import verhoeff

from tunedesk.core.conversations import Row
from tunedesk.core.personal_data.finding import asked_for
from tunedesk.core.personal_data.privacy import (
    KINDS,
    find,
    find_in_row,
    has_personal_data,
    mask_row,
    row_has_personal_data,
)

TICKETS = Path(__file__).parents[2] / "sample_data" / "raw_tickets.csv"
BROKEN_MESSAGES = [None, 3, {}, {"content": 5}, {"role": "user", "content": [1, {}]}]
AADHAAR = "2341 2341 234" + verhoeff.calc_check_digit("23412341234")


def kinds_and_texts(text: str) -> list[tuple[str, str]]:
    return [(item.kind, item.text) for item in find(text)]


def chat(*turns: str, **metadata: object) -> Row:
    """Return a row whose turns are the user's and the assistant's by turns."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
    return {"messages": messages, "metadata": metadata} if metadata else {"messages": messages}


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("write to joan.pike@example.com please", "email", "joan.pike@example.com"),
        ("Call back on 07700 900123 after 5pm", "phone", "07700 900123"),
        ("my number is (555) 123-4567", "phone", "(555) 123-4567"),
        ("+49 30 901820 ruf an", "phone", "+49 30 901820"),
        ("numéro 06 12 34 56 78", "phone", "06 12 34 56 78"),
        ("the full number is 4111 1111 1111 1111 if you need it", "card", "4111 1111 1111 1111"),
        ("my IBAN is gb29 nwbk 6016 1331 9268 19 thanks", "iban", "gb29 nwbk 6016 1331 9268 19"),
        ("IBAN DE89370400440532013000.", "iban", "DE89370400440532013000"),
        ("my NI number is QQ123456C.", "national_id", "QQ123456C"),
        ("SSN 536-90-4399", "national_id", "536-90-4399"),
        ("Mi DNI es 12345678Z", "national_id", "12345678Z"),
        ("NIE X1234567L", "national_id", "X1234567L"),
        ("mon NIR 2 55 08 14 168 025 38", "national_id", "2 55 08 14 168 025 38"),
        ("Steuer-ID 36574261809", "national_id", "36574261809"),
        ("PESEL 44051401359", "national_id", "44051401359"),
        (f"Aadhaar {AADHAAR}", "national_id", AADHAAR),
        ("PAN ABCPE1234F", "national_id", "ABCPE1234F"),
        ("sort code 04-00-72", "sort_code", "04-00-72"),
        ("account 00 11 22 33 is mine", "account_number", "00 11 22 33"),
        ("Meine Kontonummer 1234567890", "account_number", "1234567890"),
        ("My postcode is KW99 3EA, an island", "postcode", "KW99 3EA"),
        ("My address is 18 Larch Rise, Otley LS99 4ZZ, has it", "address", "18 Larch Rise, Otley LS99 4ZZ"),
        ("123 Main Street, Springfield, IL 62704", "address", "123 Main Street, Springfield, IL 62704"),
        ("Ich wohne Hauptstraße 12, 10115 Berlin", "address", "Hauptstraße 12, 10115 Berlin"),
        ("J'habite 12 rue de la Paix, 75002 Paris", "address", "12 rue de la Paix, 75002 Paris"),
        ("vivo en Calle Mayor 5, 28013 Madrid", "address", "Calle Mayor 5, 28013 Madrid"),
        ("born 21 June 1979 in Hull", "date_of_birth", "21 June 1979"),
        ("DOB 30/09/1944", "date_of_birth", "30/09/1944"),
        ("I log in from 203.0.113.7", "ip_address", "203.0.113.7"),
        ("and from 2001:db8::1 too", "ip_address", "2001:db8::1"),
        ("key sk-proj-abcdefghij1234567890", "secret", "sk-proj-abcdefghij1234567890"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "secret", "ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
        ("AKIAIOSFODNN7EXAMPLE", "secret", "AKIAIOSFODNN7EXAMPLE"),
        ("Authorization: Bearer abcdef1234567890abcdef", "secret", "abcdef1234567890abcdef"),
        ("my password is Hunter2!x", "secret", "Hunter2!x"),
        ("my pin is 4417 and it dont work", "secret", "4417"),
        ("My name is katarina miller and I lost it", "name", "katarina miller"),
        ("Dear Mrs Pike,\n\nPlease ring", "name", "Pike"),
        ("Kind regards,\nAgnes Whitlow\nCustomer Care", "name", "Agnes Whitlow"),
        ("Hi Odette, please wait", "name", "Odette"),
        ("Mein Name ist Jürgen Müller", "name", "Jürgen Müller"),
        ("me llamo María García", "name", "María García"),
    ],
)
def test_personal_data_is_found_where_it_stands(text: str, kind: str, value: str) -> None:
    assert kinds_and_texts(text) == [(kind, value)]
    assert kind in KINDS
    assert has_personal_data(text)


@pytest.mark.parametrize(
    "text",
    [
        "order 4111111111111111 has not arrived",
        "can you help me canceling purchase 00004587345?",
        "how can I cancel purchase 113542617735902?",
        "serial 4111 1111 1111 and 1234 5678 9012 3456 stand alone",
        "amount 1,234,567.00 on 12/03/2024 at 10:30",
        "Your ticket #10020 has been received, ref LN-40981",
        "Total: 1 234 567 890 EUR",
        "my tracking number is 1Z999AA10123456784",
        "call 0808 157 0142, lost cards are answered 24 hours",
        "write to support@bank.example or no-reply@bank.example",
        "app version 1.2.3.4 on 192.168.1.1",
        "the balance of my account is 100000",
        "DE89370400440532013001 is no account anywhere",
        "Tax 36574261800 has a wrong check digit",
        "the password is wrong and the PIN is blocked",
        "Hello World. Hi There! Dear Customer, Dear Sir or Madam, Hi Team",
        "I am New here. I'm Happy. This is Urgent. Thank you. Finally, good night",
        "my name is spelled wrong and my name is not on the card",
        "Dear {{customer_name}}, see [NAME_1] and {{Order Number}}",
        "It takes 4 to 6 working days, 2.75% or £25,000 a day. Will May be cold?",
        "",
    ],
)
def test_numbers_and_words_that_are_nobodys_are_left_alone(text: str) -> None:
    assert kinds_and_texts(text) == []
    assert not has_personal_data(text)


def test_finds_are_in_order_without_overlaps_and_quote_the_text() -> None:
    text = (
        "Rosemary Dell, born 21 June 1979, NI QQ123456B, 6 Orchard Close, Hereford HR99 4DP, sort code 20-15-55, "
        "account 55555555, IBAN GB33 BUKB 2020 1555 5555 55, tel 07700 900219"
    )
    found = find(text)
    assert [item.kind for item in found] == [
        "name",
        "date_of_birth",
        "national_id",
        "address",
        "sort_code",
        "account_number",
        "iban",
        "phone",
    ]
    assert all(text[item.start : item.end] == item.text for item in found)
    assert all(a.end <= b.start for a, b in pairwise(found))


def test_a_bare_answer_is_told_by_the_question_before_it() -> None:
    row = chat(
        "Hello",
        "Could I get your full name, please?",
        "Sarah Brown",
        "Can you tell me your account number, please?",
        "68318931",
        "Right, and your PIN as well please.",
        "9503",
        "Could you provide your date of birth, please?",
        "July 4th 1927",
    )
    assert [(item.message, item.kind, item.text) for item in find_in_row(row)] == [
        (2, "name", "Sarah Brown"),
        (4, "account_number", "68318931"),
        (6, "secret", "9503"),
        (8, "date_of_birth", "July 4th 1927"),
    ]
    assert asked_for("Have a good day.") == frozenset()
    assert find_in_row(chat("Hi", "What time?", "9503")) == []


def test_a_name_once_known_is_found_in_every_message() -> None:
    row = chat(
        "Lost my card. Joan Pike",
        "Please ring us, Joan.",
        "Thanks Marek",
        customer_name="Ada Voss",
        agent="x",
    )
    row["messages"].append({"role": "assistant", "content": "Goodbye Ms Voss, said Ada to joan"})
    found = [(item.message, item.text) for item in find_in_row(row)]
    assert found == [(0, "Joan Pike"), (1, "Joan"), (2, "Marek"), (3, "Voss"), (3, "Ada")]


def test_the_persona_of_the_system_prompt_and_a_company_are_nobodys_data() -> None:
    row = chat(
        "Dear Ferncastle, it is me, Joan Pike", "Dear Joan, all is well. Kind regards,\nIsla\nFerncastle Bank"
    )
    row["messages"].insert(0, {"role": "system", "content": "You are Isla of Ferncastle Bank."})
    masked, mapping = mask_row(row)
    assert mapping == {"[NAME_1]": "Joan Pike"}
    assert masked["messages"][0] == row["messages"][0]
    assert masked["messages"][2]["content"].endswith("Isla\nFerncastle Bank")


def test_one_person_keeps_one_placeholder_in_all_forms_of_the_name() -> None:
    row = chat(
        "Hello? I am Joan Pike",
        "Dear Mrs Pike, it is 07700 900123",
        "Yes, +44 7700 900123. J. Pike",
        "Hi Joan, JOAN PIKE",
    )
    masked, mapping = mask_row(row)
    texts = [message["content"] for message in masked["messages"]]
    assert texts[0].endswith("I am [NAME_1]")
    assert texts[1] == "Dear Mrs [NAME_1], it is [PHONE_1]"
    assert texts[2].startswith("Yes, [PHONE_1].")
    assert texts[3] == "Hi [NAME_1], [NAME_1]"
    assert mapping == {"[NAME_1]": "Joan Pike", "[PHONE_1]": "07700 900123"}


def test_masking_leaves_the_given_row_alone_and_keeps_the_mapping_out_of_the_new_one() -> None:
    row = chat("My card is 4111 1111 1111 1111", "Please never send that.")
    before = copy.deepcopy(row)
    masked, mapping = mask_row(row)
    assert row == before
    assert "4111" not in json.dumps(masked)
    assert mapping == {"[CARD_1]": "4111 1111 1111 1111"}
    assert set(masked) == set(row)


def test_masking_twice_changes_nothing_more() -> None:
    row = chat("I am Joan Pike, joan@example.com", "Hello Joan, noted.")
    masked, _ = mask_row(row)
    again, mapping = mask_row(masked)
    assert again == masked
    assert mapping == {}
    assert not row_has_personal_data(masked)


def test_a_mapping_is_carried_on_and_used_numbers_are_not_used_again() -> None:
    first, mapping = mask_row(chat("joan@example.com"))
    second, mapping = mask_row(chat("JOAN@example.com or ann@example.com"), mapping)
    assert first["messages"][0]["content"] == "[EMAIL_1]"
    assert second["messages"][0]["content"] == "[EMAIL_1] or [EMAIL_2]"
    third, _ = mask_row(chat("[EMAIL_7] and bob@example.com"))
    assert third["messages"][0]["content"] == "[EMAIL_7] and [EMAIL_8]"


def test_tool_calls_are_masked_and_stay_json() -> None:
    arguments = '{"customer_name": "Joan Pike", "account_number": 31926819, "email": "joan@example.com"}'
    call = {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": arguments}}
    row: Row = {
        "messages": [
            {"role": "user", "content": "look me up"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": '{"email": "joan@example.com"}'},
        ]
    }
    masked, mapping = mask_row(row)
    sent = json.loads(masked["messages"][1]["tool_calls"][0]["function"]["arguments"])
    assert sent == {"customer_name": "[NAME_1]", "account_number": "[ACCOUNT_NUMBER_1]", "email": "[EMAIL_1]"}
    assert masked["messages"][2]["content"] == '{"email": "[EMAIL_1]"}'
    assert mapping["[ACCOUNT_NUMBER_1]"] == "31926819"
    assert {item.field for item in find_in_row(row)} == {"tool_calls.0.function.arguments", "content"}


def test_content_parts_are_addressed_in_the_joined_text_and_masked_one_by_one() -> None:
    parts = [
        {"type": "text", "text": "see"},
        {"type": "image_url"},
        {"type": "text", "text": "a@example.com"},
    ]
    row: Row = {"messages": [{"role": "user", "content": parts}]}
    assert [(item.start, item.end) for item in find_in_row(row)] == [(4, 17)]
    masked, _ = mask_row(row)
    assert masked["messages"][0]["content"][2]["text"] == "[EMAIL_1]"


def test_preference_rows_are_searched_through_both_outputs() -> None:
    row: Row = {
        "input": {"messages": [{"role": "user", "content": "who?"}]},
        "preferred_output": [{"role": "assistant", "content": "a@example.com"}],
        "non_preferred_output": [{"role": "assistant", "content": "b@example.com"}],
    }
    assert [item.message for item in find_in_row(row)] == [1, 2]
    masked, _ = mask_row(row)
    assert masked["non_preferred_output"][0]["content"] == "[EMAIL_2]"


@pytest.mark.parametrize("row", [{}, {"messages": None}, {"messages": BROKEN_MESSAGES}])
def test_broken_rows_hold_nothing_and_break_nothing(row: Row) -> None:
    assert find_in_row(row) == []
    assert mask_row(row) == (row, {})


def test_the_data_planted_in_the_sample_tickets_is_found() -> None:
    with TICKETS.open(encoding="utf-8-sig", newline="") as file:
        messages = [row["message"] or "" for row in csv.DictReader(file)]
    found = {(item.kind, item.text) for message in messages for item in find(message)}
    planted = {
        ("card", "5555 5555 5555 4444"),
        ("card", "4012888888881881"),
        ("iban", "GB33 BUKB 2020 1555 5555 55"),
        ("iban", "DE89370400440532013000"),
        ("national_id", "QQ 12 34 56 C"),
        ("sort_code", "04-00-38"),
        ("account_number", "88120047"),
        ("postcode", "KW99 3EA"),
        ("address", "Flat 3, 9 Hazel Court, Frome BA99 8TT"),
        ("date_of_birth", "14/02/1991"),
        ("phone", "07700 900871"),
        ("email", "ingrid.s@example.com"),
        ("secret", "4417"),
        ("name", "Agatha Crump"),
    }
    assert planted <= found
    assert not {text for kind, text in found if kind in ("card", "phone") and text.startswith(("0808", "10"))}


@pytest.mark.parametrize(
    "piece", ["1", "1 ", "a@", "a.", "A", "Aa ", "sk-", "12-", "(", "1.", "::", "http://1/", "pin "]
)
def test_long_texts_of_one_kind_take_no_time(piece: str) -> None:
    text = piece * (60_000 // len(piece))
    started = time.process_time()
    find(text)
    assert time.process_time() - started < 3
