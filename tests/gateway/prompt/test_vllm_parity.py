"""The same requests through vLLM's own rendering code, in this process and without an engine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prfaas.gateway.api_request import ApiRequest
from prfaas.gateway.prompt.hf_tokenizer import load_tokenizer
from tests.gateway.prompt.samples import RENDERED, TEMPLATES, save_tokenizer

pytestmark = [
    pytest.mark.engine,
    # vLLM reads deprecated fields of its own schema; here its schema is asked outside its server.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

MAX_MODEL_LEN = 2048
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 257,
    "max_position_embeddings": MAX_MODEL_LEN,
}
Renderer = Callable[[dict[str, Any]], list[int]]


def vllm_renderer(folder: Path) -> Renderer:
    """What vLLM 0.32 does with a chat request between its schema and the engine."""
    from transformers import AutoTokenizer
    from vllm.config import ModelConfig
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.renderers.chat_utils import parse_chat_messages
    from vllm.renderers.hf import resolve_chat_template_content_format, safe_apply_chat_template
    from vllm.renderers.params import merge_kwargs

    tokenizer, model = AutoTokenizer.from_pretrained(folder), ModelConfig(model=str(folder))

    def ids_of(body: dict[str, Any]) -> list[int]:
        request = ChatCompletionRequest(**json.loads(json.dumps({"model": "tiny", **body})))
        tools = None if request.tools is None else [tool.model_dump() for tool in request.tools]
        defaults = merge_kwargs({}, {"tools": tools, "tokenize": False})
        params = request.build_chat_params(None, "auto").with_defaults(defaults)
        content_format = resolve_chat_template_content_format(
            params.chat_template, params.chat_template_kwargs.get("tools"), "auto", tokenizer, model_config=model
        )
        conversation, _, _ = parse_chat_messages(request.messages, model, content_format=content_format)
        text = safe_apply_chat_template(model, tokenizer, conversation, **params.get_apply_chat_template_kwargs())
        ids: list[int] = tokenizer(text, **request.build_tok_params(model).get_encode_kwargs())["input_ids"]
        return ids

    return ids_of


@pytest.mark.parametrize("template", TEMPLATES)
async def test_ids_equal_vllms(tmp_path: Path, template: str) -> None:
    """Whatever the gateway renders, vLLM's code renders to the same token ids, under every template."""
    folder = save_tokenizer(tmp_path, TEMPLATES[template])
    (folder / "config.json").write_text(json.dumps(MODEL))
    ours, theirs = load_tokenizer(str(folder), MAX_MODEL_LEN), vllm_renderer(folder)
    compared = 0
    for body in RENDERED:
        ids = (await ours.tokens_of(ApiRequest("chat", body))).ids
        if ids is not None:
            assert ids.to_list() == theirs(body), body
            compared += 1
    ours.close()
    assert compared >= len(RENDERED) - 5
