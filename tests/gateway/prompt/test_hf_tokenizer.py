import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prfaas.errors import ConfigError, RequestRejected
from prfaas.gateway.api_request import ApiRequest
from prfaas.gateway.prompt.hf_tokenizer import HfPromptTokenizer, load_tokenizer
from tests.gateway.prompt.samples import RENDERED, TEMPLATES, TOOL, UNTOUCHED, save_tokenizer, text, user

MAX_MODEL_LEN = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"), TEMPLATES["string"])


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Iterator[HfPromptTokenizer]:
    tokenizer = load_tokenizer(str(folder), MAX_MODEL_LEN)
    yield tokenizer
    tokenizer.close()


async def ids_of_chat(tokenizer: HfPromptTokenizer, body: dict[str, Any]) -> list[int] | None:
    ids = (await tokenizer.tokens_of(ApiRequest("chat", body))).ids
    return None if ids is None else ids.to_list()


async def ids_of(tokenizer: HfPromptTokenizer, prompt: object, **fields: object) -> list[int] | None:
    ids = (await tokenizer.tokens_of(ApiRequest("completions", {"prompt": prompt, **fields}))).ids
    return None if ids is None else ids.to_list()


async def encoded(tokenizer: HfPromptTokenizer, rendered: str) -> list[int] | None:
    return await ids_of(tokenizer, rendered, add_special_tokens=False)


async def test_chat_goes_through_the_models_own_template(tokenizer: HfPromptTokenizer) -> None:
    """Messages become the text of the template, without a second beginning-of-text token."""
    messages = [user([text("a"), text(""), text("b")]), {"role": "assistant", "content": "c", "name": "n"}]
    expected = await encoded(tokenizer, "<user>a\nb<assistant>cn<assistant>")
    assert await ids_of_chat(tokenizer, {"messages": messages}) == expected
    assert expected is not None
    assert 256 not in expected


@pytest.mark.parametrize("body", RENDERED, ids=str)
async def test_known_forms_are_rendered(tokenizer: HfPromptTokenizer, body: dict[str, Any]) -> None:
    """Each form that is known to render as vLLM renders it gets ids."""
    assert await ids_of_chat(tokenizer, body)


@pytest.mark.parametrize("body", UNTOUCHED, ids=lambda body: str(body)[:99])
async def test_other_forms_are_left_to_the_engine(tokenizer: HfPromptTokenizer, body: dict[str, Any]) -> None:
    """Each form whose rendering is not certain is left untouched, with a reason that does not quote the prompt."""
    tokens = await tokenizer.tokens_of(ApiRequest("chat", body))
    assert tokens.ids is None
    assert tokens.untouched_reason


async def test_surprising_form_is_left_to_the_engine(
    tokenizer: HfPromptTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that the gateway stumbles over is the engine's to judge, not a failure of the gateway."""

    def stumble(*_: object) -> None:
        raise AttributeError("internal detail")

    monkeypatch.setattr("prfaas.gateway.prompt.hf_tokenizer.conversation_of", stumble)
    tokens = await tokenizer.tokens_of(ApiRequest("chat", {"messages": [user("x")]}))
    assert tokens.untouched_reason == "the request has an unusual form"


async def test_tools_and_switches_reach_the_template(tmp_path: Path) -> None:
    """Tools, template variables and the generation prompt all change what is rendered."""
    tokenizer = load_tokenizer(str(save_tokenizer(tmp_path, TEMPLATES["everything"])), MAX_MODEL_LEN)
    base: dict[str, Any] = {"messages": [user("x")]}
    variants = [
        base,
        {**base, "tools": [TOOL]},
        {**base, "chat_template_kwargs": {"flag": 1}},
        {**base, "add_generation_prompt": False},
        {**base, "reasoning_effort": "none"},
    ]
    rendered = [tuple(await ids_of_chat(tokenizer, body) or ()) for body in variants]
    assert len(set(rendered)) == len(variants)
    tokenizer.close()


async def test_request_is_not_changed(tokenizer: HfPromptTokenizer) -> None:
    """Rendering leaves the client's body as it is, tool arguments included."""
    body = next(body for body in RENDERED if "tool_choice" in body)
    before = str(body)
    await ids_of_chat(tokenizer, body)
    assert str(body) == before


async def test_completion_prompts(tokenizer: HfPromptTokenizer) -> None:
    """A text gets the beginning-of-text token as in vLLM; a single prompt in a list is the prompt; ids are ids."""
    assert await ids_of(tokenizer, "ab") == [256, *(await encoded(tokenizer, "ab") or [])]
    assert await ids_of(tokenizer, ["ab"]) == await ids_of(tokenizer, "ab")
    assert await ids_of(tokenizer, [5, 6]) == [5, 6]
    assert await ids_of(tokenizer, [[5, 6]]) == [5, 6]


@pytest.mark.parametrize("prompt", ["", [], ["a", "b"], [[1], [2]], [1, "a"], [True], [[]], 7, None], ids=str)
async def test_odd_completion_prompts_are_left_to_the_engine(tokenizer: HfPromptTokenizer, prompt: object) -> None:
    """Several prompts, empty ones and odd types have no ids here."""
    assert await ids_of(tokenizer, prompt) is None


@pytest.mark.parametrize("field", ["echo", "suffix", "truncate_prompt_tokens", "prompt_embeds"])
async def test_fields_that_need_the_text_leave_it_to_the_engine(tokenizer: HfPromptTokenizer, field: str) -> None:
    """Fields for which the engine needs the text itself keep the request untouched."""
    assert await ids_of(tokenizer, "ab", **{field: True}) is None


async def test_model_length_is_the_limit(tokenizer: HfPromptTokenizer) -> None:
    """A prompt that leaves room for one token passes; one token more is refused as OpenAI's API does."""
    assert len(await ids_of(tokenizer, [1] * (MAX_MODEL_LEN - 1)) or []) == MAX_MODEL_LEN - 1
    for prompt in ([1] * MAX_MODEL_LEN, "x" * MAX_MODEL_LEN, "x" * 10_000):
        with pytest.raises(RequestRejected) as refusal:
            await ids_of(tokenizer, prompt)
        assert (refusal.value.status, refusal.value.code) == (400, "context_length_exceeded")


async def test_ids_are_counted_before_they_are_looked_at(tokenizer: HfPromptTokenizer) -> None:
    """A list of ids that is too long costs no look at each of them, so that an odd one at its end goes unseen."""
    with pytest.raises(RequestRejected):
        await ids_of(tokenizer, [*[1] * MAX_MODEL_LEN, "odd"])


async def test_template_that_refuses_leaves_it_to_the_engine(tmp_path: Path) -> None:
    """What the template says against a request is the engine's to tell."""
    tokenizer = load_tokenizer(str(save_tokenizer(tmp_path, TEMPLATES["strict"])), MAX_MODEL_LEN)
    assert await ids_of_chat(tokenizer, {"messages": [{"role": "system", "content": "s"}]}) is None
    tokenizer.close()


async def test_tokenizer_without_a_template_leaves_chat_to_the_engine(tmp_path: Path) -> None:
    """Without a chat template only completions are tokenised here."""
    tokenizer = load_tokenizer(str(save_tokenizer(tmp_path, None)), MAX_MODEL_LEN)
    assert await ids_of_chat(tokenizer, {"messages": [user("x")]}) is None
    assert await ids_of(tokenizer, "x")
    tokenizer.close()


def test_missing_tokenizer_is_a_config_error(tmp_path: Path) -> None:
    """A folder without a tokenizer is refused in one line that names the key."""
    with pytest.raises(ConfigError, match=r"^model\.path: ") as refusal:
        load_tokenizer(str(tmp_path), MAX_MODEL_LEN)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["{", "{}", "", '{"model": 1}'])
def test_broken_tokenizer_is_a_config_error(tmp_path: Path, text: str) -> None:
    """A file that is no tokenizer is refused in one line that names the key and a reason."""
    (save_tokenizer(tmp_path, None) / "tokenizer.json").write_text(text)
    with pytest.raises(ConfigError, match=r"^model\.path: .*: no usable tokenizer: .") as refusal:
        load_tokenizer(str(tmp_path), MAX_MODEL_LEN)
    assert "\n" not in str(refusal.value)


def test_tokenizer_that_fails_without_a_word_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error without a message is told by its kind."""

    def fail(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", fail)
    with pytest.raises(ConfigError, match=r"no usable tokenizer: KeyError$"):
        load_tokenizer("nowhere", MAX_MODEL_LEN)


def test_torch_stays_out_of_the_gateway(folder: Path) -> None:
    """Loading and using the tokenizer as the gateway does imports neither torch nor vLLM."""
    program = (
        "import asyncio, sys\n"
        "from prfaas.gateway.api_request import ApiRequest\n"
        "from prfaas.gateway.prompt.hf_tokenizer import load_tokenizer, torch_hidden\n"
        f"with torch_hidden():\n    tokenizer = load_tokenizer({str(folder)!r}, 400)\n"
        "request = ApiRequest('chat', {'messages': [{'role': 'user', 'content': 'x'}]})\n"
        "assert asyncio.run(tokenizer.tokens_of(request)).ids\n"
        "print(*sorted({'torch', 'vllm'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
