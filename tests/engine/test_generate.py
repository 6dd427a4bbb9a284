"""Replies: the model's own words, streamed whole characters at a time, ended where they should."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM

from tests import tiny_model
from tunedesk.engine import generate
from tunedesk.engine.adapters import Adapter, save_adapter
from tunedesk.engine.fast_llama import FastLlama, Stretch
from tunedesk.engine.generate import ModelGenerator
from tunedesk.engine.models import load_net
from tunedesk.engine.training_state import named_parameters
from tunedesk.engine.wire import GenerationChunk, GenerationRequest
from tunedesk.errors import EngineError

QUESTION = [{"role": "user", "content": "My card was lost."}]


pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)  # by PEFT


@pytest.fixture(scope="module", autouse=True)
def _exact() -> Iterator[None]:
    """Compare in f32, whatever this machine is fast with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "fastest_dtype", lambda _device, **_: torch.float32)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noisy_adapter(base, tmp_path_factory.mktemp("job") / "adapter")


@pytest.fixture(scope="module")
def generator() -> ModelGenerator:
    return ModelGenerator()


def noisy_adapter(base: Path, folder: Path) -> Path:
    net, _ = load_net(base, torch.float32, "cpu", 1, None)
    torch.manual_seed(2)
    with torch.no_grad():
        for tensor in named_parameters(net.adapter).values():
            tensor.copy_(torch.randn(tensor.shape) * 0.2)
    save_adapter(folder, net.adapter, "tiny")
    return folder


def request(base: Path, adapter: Path | None = None, **changes: object) -> GenerationRequest:
    plain = GenerationRequest(base, adapter, QUESTION, [], 24, 0.0, 1.0, 1, [])
    return replace(plain, **changes)  # type: ignore[arg-type]


def reply(generator: ModelGenerator, order: GenerationRequest) -> tuple[str, list[GenerationChunk]]:
    pieces = list(generator.stream(order))
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    return "".join(piece.text for piece in pieces), pieces


def greedy(base: Path, adapter: Path | None, tokens: int = 24) -> str:
    """The library's own greedy reply."""
    from peft import PeftModel
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
    ids = tokenizer.apply_chat_template(
        QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    made = model.generate(**ids, max_new_tokens=tokens, do_sample=False)
    return str(tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))


def test_base_and_tuned_replies_are_the_librarys_own(
    generator: ModelGenerator, base: Path, adapter: Path
) -> None:
    plain, tuned = reply(generator, request(base))[0], reply(generator, request(base, adapter))[0]
    assert plain == greedy(base, None)
    assert tuned == greedy(base, adapter)
    assert plain != tuned
    assert reply(generator, request(base))[0] == plain


def test_another_architecture_is_answered_by_the_library(generator: ModelGenerator, tmp_path: Path) -> None:
    folder = tmp_path / "neox"
    tiny_model.tokenizer().save_pretrained(folder)
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    tuned = noisy_adapter(folder, tmp_path / "adapter")
    plain = reply(generator, request(folder))[0]
    assert plain == greedy(folder, None)
    assert reply(generator, request(folder, tuned))[0] == greedy(folder, tuned)
    assert reply(generator, request(folder))[0] == plain


def test_the_reply_ends_at_the_limit_and_is_counted(generator: ModelGenerator, base: Path) -> None:
    _, pieces = reply(generator, request(base, max_tokens=5))
    assert pieces[-1].finish_reason == "length"
    assert pieces[-1].completion_tokens == 5
    assert pieces[-1].prompt_tokens > 5


def test_the_stop_token_ends_the_reply_and_is_not_shown(
    generator: ModelGenerator, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = iter([70, 71, 2])
    monkeypatch.setattr(generate, "_choose", lambda *_: next(script))
    text, pieces = reply(generator, request(base))
    assert pieces[-1].finish_reason == "stop"
    assert pieces[-1].completion_tokens == 2
    assert "im_end" not in text
    assert text


def test_a_character_is_never_split(
    generator: ModelGenerator, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = "né €🙂!"
    script = iter([*tiny_model.tokenizer()(wanted)["input_ids"], 2])
    monkeypatch.setattr(generate, "_choose", lambda *_: next(script))
    text, pieces = reply(generator, request(base))
    assert text == wanted
    assert not any("\ufffd" in piece.text for piece in pieces)
    assert len(pieces) > 3


def test_a_stop_text_ends_the_reply_before_itself_even_across_tokens(
    generator: ModelGenerator, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = iter(tiny_model.tokenizer()("one EN and END two")["input_ids"])
    monkeypatch.setattr(generate, "_choose", lambda *_: next(script))
    text, pieces = reply(generator, request(base, stop=["END", "never"]))
    assert text == "one EN and "
    assert pieces[-1].finish_reason == "stop"


def test_a_seed_repeats_a_sampled_reply(generator: ModelGenerator, base: Path) -> None:
    first = reply(generator, request(base, temperature=1.0, seed=5))[0]
    assert reply(generator, request(base, temperature=1.0, seed=5))[0] == first
    assert reply(generator, request(base, temperature=1.0, seed=6))[0] != first
    assert (
        reply(generator, request(base, temperature=1.0, top_p=0.0, seed=6))[0]
        == reply(generator, request(base))[0]
    )


def test_chances_are_the_librarys_own_and_their_tokens_make_the_text(
    generator: ModelGenerator, base: Path
) -> None:
    from transformers import AutoTokenizer

    text, pieces = reply(generator, request(base, top_logprobs=3))
    told = [one for piece in pieces for one in piece.logprobs]
    assert len(told) == 24
    assert [one["top_logprobs"][0]["token"] for one in told] == [one["token"] for one in told]  # it is greedy
    tokenizer = AutoTokenizer.from_pretrained(base)
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    ids = list(prompt)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for one in told:
        with torch.no_grad():
            chances = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        best = chances.topk(3)
        ids.append(int(best.indices[0]))
        assert one["logprob"] == pytest.approx(float(best.values[0]), abs=1e-4)
        assert [other["logprob"] for other in one["top_logprobs"]] == pytest.approx(
            best.values.tolist(), abs=1e-4
        )
        if one["bytes"] is not None:
            assert bytes(one["bytes"]).decode() == one["token"]
            assert one["token"] in text
    assert tokenizer.decode(ids[len(prompt) :]) == text


def test_biases_and_penalties_change_what_is_likeliest(base: Path) -> None:
    logits = torch.tensor([1.0, 2.0, 3.0])
    order = request(base, presence_penalty=0.5, frequency_penalty=1.0, logit_bias={0: 4.0, 99: 100.0})
    assert generate.steered(logits, order, []).tolist() == [5.0, 2.0, 3.0]
    assert generate.steered(logits, order, [2, 1, 2]).tolist() == [5.0, 0.5, 0.5]
    assert logits.tolist() == [1.0, 2.0, 3.0]
    assert generate.steered(logits, request(base), [1]) is logits


def test_a_banned_token_is_never_written(generator: ModelGenerator, base: Path) -> None:
    every = dict.fromkeys(range(3, 10000), -100.0)
    text, pieces = reply(generator, request(base, logit_bias={**every, 70: 100.0}, max_tokens=5))
    assert pieces[-1].completion_tokens == 5
    assert len(set(text)) == 1


def test_memory_does_not_grow_with_every_length_of_a_prompt_nor_with_every_thread(
    generator: ModelGenerator, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply(generator, request(base, max_tokens=1))
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    assert getenv(b"ONEDNN_PRIMITIVE_CACHE_CAPACITY") == b"64"
    assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" not in os.environ, "the trainer keeps its own"
    readers: set[str] = set()
    read = FastLlama.read

    def watched(self: FastLlama, stretches: Sequence[Stretch]) -> list[Tensor]:
        readers.add(threading.current_thread().name)
        return read(self, stretches)

    monkeypatch.setattr(FastLlama, "read", watched)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: reply(generator, request(base, max_tokens=3)), range(8)))
    assert len(readers) == 1


def test_freed_memory_is_given_back_now_and_then_also_by_a_broken_off_reply(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trims: list[int] = []
    monkeypatch.setattr(generate, "_TRIM", trims.append)
    writer = ModelGenerator()
    for _ in range(3):
        stream = writer.stream(request(base))
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    assert trims == [0]


def test_closing_ends_a_reply(generator: ModelGenerator, base: Path) -> None:
    stream = generator.stream(request(base, max_tokens=400))
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined]
    assert list(stream) == []


def test_messages_over_the_context_are_refused_in_words(generator: ModelGenerator, base: Path) -> None:
    long = [{"role": "user", "content": "card " * 600}]
    with pytest.raises(ValueError, match="tokens long and this model reads 512"):
        list(generator.stream(request(base, messages=long)))


def test_a_broken_model_or_adapter_is_an_engine_error(
    generator: ModelGenerator, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="no base model"):
        list(generator.stream(request(tmp_path / "none")))
    with pytest.raises(EngineError, match="cannot be read"):
        list(generator.stream(request(base, tmp_path / "none")))
    save_adapter(
        tmp_path / "odd", Adapter({"model.layers.7.mlp.up_proj": (torch.zeros(2, 2), torch.zeros(2, 2))}), "x"
    )
    with pytest.raises(EngineError, match="does not fit"):
        list(generator.stream(request(base, tmp_path / "odd")))


def test_several_replies_are_written_at_once_each_as_alone(
    generator: ModelGenerator, base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [
        request(
            base, adapter if number % 2 else None, messages=[{"role": "user", "content": f"Hello {number}"}]
        )
        for number in range(4)
    ]
    alone = [reply(generator, order)[0] for order in orders]
    together: list[int] = []
    read = FastLlama.read

    def counted(llama: FastLlama, stretches: list[Stretch]) -> list[Tensor]:
        together.append(len(stretches))
        return read(llama, stretches)

    monkeypatch.setattr(FastLlama, "read", counted)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda order: reply(generator, order)[0], orders)) == alone
    assert max(together) > 1
    assert len(together) < sum(together)


def test_what_a_conversation_shares_with_an_earlier_one_is_not_read_again(
    base: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = ModelGenerator()
    asked = reply(generator, request(base))[1][0].prompt_tokens
    turns = [
        *QUESTION,
        {"role": "assistant", "content": "I am sorry."},
        {"role": "user", "content": "Thanks."},
    ]
    lengths: list[int] = []
    read = FastLlama.read

    def counted(llama: FastLlama, stretches: list[Stretch]) -> list[Tensor]:
        lengths.append(len(stretches[0].ids))
        return read(llama, stretches)

    monkeypatch.setattr(FastLlama, "read", counted)
    again, [piece, *_] = reply(generator, request(base, messages=turns))
    assert lengths[0] < piece.prompt_tokens - asked // 2
    assert again == reply(ModelGenerator(), request(base, messages=turns))[0]
    lengths.clear()
    reply(generator, request(base, adapter, messages=turns))
    assert lengths[0] == piece.prompt_tokens  # what the base has read is nothing to an adapter


def test_a_failed_pass_is_told_to_every_stream_and_the_next_goes_on(
    generator: ModelGenerator, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(FastLlama, "read", full)
        with pytest.raises(RuntimeError, match="out of memory"):
            reply(generator, request(base))
    assert reply(generator, request(base))[0]
