"""Chat templates and requests that between them touch every rule of the rendering."""

from pathlib import Path
from typing import Any

TEMPLATES = {
    "everything": "{{ messages | tojson }}|{{ tools | tojson }}|{{ add_generation_prompt }}|{{ enable_thinking }}"
    "|{{ reasoning_effort }}|{{ flag }}|{{ bos_token }}",
    "parts": "{% for m in messages %}{% for part in m.content %}{{ part | tojson }}{% endfor %}{{ m | tojson }}"
    "{% endfor %}{{ tools | tojson if tools else 'none' }}",
    "string": "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ m.name or '' }}"
    "{% for call in m.tool_calls or [] %}{{ call.function.name }}={{ call.function.arguments | tojson }}{% endfor %}"
    "{{ m.tool_call_id or '' }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
    "macro": "{% macro show(x) %}{% if x is string %}{{ x }}{% else %}{% for part in x %}{{ part.text }};{% endfor %}"
    "{% endif %}{% endmacro %}{% for m in messages %}{{ m.role }}:{{ show(m.content) }}\n{% endfor %}",
    "other macro": "{% macro list(x) %}{% for part in x %}{{ part }};{% endfor %}{% endmacro %}"
    "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ list(m.tool_calls or []) }}\n{% endfor %}",
    "renamed": "{% set rest = messages[0:] %}{% for m in rest %}{% set content = m['content'] %}"
    "{% for part in content %}{{ part.text if part.text else part }};{% endfor %}{% endfor %}",
    "strict": "{% if messages[0].role != 'user' %}{{ raise_exception('start with user') }}{% endif %}"
    "{% for m in messages %}{{ m.content | trim }}{% generation %}x{% endgeneration %}{% endfor %}",
}
FORMATS = {
    "everything": "string",
    "parts": "openai",
    "string": "string",
    "macro": "openai",
    "other macro": "string",
    "renamed": "openai",
    "strict": "string",
}


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def call(name: str, arguments: str) -> dict[str, object]:
    return {"id": f"id-{name}", "type": "function", "function": {"name": name, "arguments": arguments}}


PARAMETERS = {"type": "object", "properties": {"b": {"type": "string"}, "a": {}}}
TOOL = {"type": "function", "function": {"parameters": PARAMETERS, "name": "f", "description": "dö"}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [call("f", '{"b": 1, "a": [2]}'), call("g", "")]}
ODD_CALLS = {"role": "assistant", "tool_calls": [call("h", "[1]"), call("i", "{bad")]}
RESULT = {"role": "tool", "tool_call_id": "id-f", "content": "result"}
RESULT_PARTS = {"role": "tool", "tool_call_id": "id-g", "content": [text(""), text("r2")]}
ECHOED: dict[str, object] = {"role": "assistant", "content": "ok", "tool_calls": None, "refusal": None}

RENDERED: list[dict[str, Any]] = [
    {"messages": [user("hi")]},
    {"messages": [user("")]},
    {"messages": [user([])]},
    {"messages": [{"role": "system", "content": "s"}, user("häß \u2028 <|im_end|>")]},
    {"messages": [{"role": "system", "content": "a"}, {"role": "system", "content": [text("b")]}, user("x")]},
    {"messages": [user([text("a"), text("b")])]},
    {"messages": [user([{"text": "a", "type": "text"}, text("")])]},
    {"messages": [user("x"), {"role": "assistant", "content": "y"}, user("z")]},
    {"messages": [user("x"), {"role": "assistant", "content": "y"}], "add_generation_prompt": False},
    {
        "messages": [user("x"), {"role": "assistant", "content": "yes and"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
    },
    {"messages": [user("x")], "tools": [TOOL]},
    {"messages": [user("x")], "tools": [TOOL, {"type": "function", "function": {"name": "g", "strict": True}}]},
    {"messages": [user("x"), CALLS, RESULT, RESULT_PARTS], "tools": [TOOL], "tool_choice": "auto"},
    {"messages": [user("x"), ODD_CALLS, RESULT]},
    {"messages": [user("x"), {"role": "assistant", "content": "", "tool_calls": []}, user("z")]},
    {"messages": [user("x"), ECHOED, user("z")]},
    {"messages": [{**user("x"), "name": "bob"}]},
    {"messages": [user("x")], "reasoning_effort": "low"},
    {"messages": [user("x")], "reasoning_effort": "none"},
    {"messages": [user("x")], "reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": False}},
    {"messages": [user("x")], "chat_template_kwargs": {"enable_thinking": True, "flag": 1, "bos_token": "B"}},
    {"messages": [user("x")], "chat_template_kwargs": {"flag": None}},
    {"messages": [user("x")], "chat_template_kwargs": {"flag": "auto"}},
    {"messages": [user("x")], "add_special_tokens": True},
]
"""Chat requests that the gateway renders."""

UNTOUCHED: list[dict[str, Any]] = [
    {"messages": [user([text("a"), {"type": "image_url", "image_url": {"url": "data:"}}])]},
    {"messages": [user([{"type": "input_audio", "input_audio": {}}])]},
    {"messages": [user([{**text("a"), "cache_control": {}}])]},
    {"messages": [user(["bare"])]},
    {"messages": [user(7)]},
    {"messages": [user(None)]},
    {"messages": ["bare"]},
    {"messages": [{"role": [], "content": "x"}]},
    {"messages": [{"role": {"user": 1}, "content": "x"}]},
    {"messages": [{"role": "assistant", "tool_calls": 5}]},
    {"messages": [{"role": "assistant", "tool_calls": {"f": 1}}]},
    {"messages": [{"role": "assistant", "tool_calls": [call("f", '{"a":' * 100_000)]}]},
    {"messages": [{"role": "assistant", "tool_calls": [call("f", '{"a": "\\ud83d"}')]}]},
    {"messages": [{"role": "developer", "content": "d"}]},
    {"messages": [{"role": "narrator", "content": "d"}]},
    {"messages": [{"role": "assistant", "content": "y", "reasoning": "because"}]},
    {"messages": [{"role": "system", "content": "x-anthropic-billing-header: 1\nrest"}]},
    {"messages": [{"role": "tool", "content": "r", "tool_call_id": None}]},
    {"messages": [{"role": "assistant", "tool_calls": [{**call("f", ""), "index": 0}]}]},
    {"messages": [{"role": "assistant", "tool_calls": [{**call("f", ""), "type": "custom"}]}]},
    {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]}]},
    {"messages": [user("x")], "tools": [TOOL], "tool_choice": "none"},
    {"messages": [user("x")], "tools": [{**TOOL, "defer_loading": True}]},
    {"messages": [user("x")], "tools": [{"type": "function"}]},
    {"messages": [user("x")], "tools": "all"},
    {"messages": [user("x")], "chat_template": "{{ messages }}"},
    {"messages": [user("x")], "documents": [{"title": "t", "text": "u"}]},
    {"messages": [user("x")], "mm_processor_kwargs": {"a": 1}},
    {"messages": [user("x")], "chat_template_kwargs": {"tokenize": True}},
    {"messages": [user("x")], "chat_template_kwargs": {"tools": []}},
    {"messages": [user("x")], "chat_template_kwargs": "none"},
    {"messages": [user("x")], "add_generation_prompt": "yes"},
    {"messages": [user("x")], "continue_final_message": True},
    {"messages": [user("x")], "add_special_tokens": 1},
    {"messages": [user("x")], "reasoning_effort": 3},
    {"messages": [user("x")], "echo": True},
    {"messages": [user("x")], "truncate_prompt_tokens": 5},
]
"""Chat requests that only the engine can render."""


def save_tokenizer(folder: Path, template: str | None) -> Path:
    """A tokenizer with one token per byte, a beginning-of-text token, and the template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {char: index for index, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab={**vocabulary, "<s>": 256}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", chat_template=template)
    wrapped.save_pretrained(folder)
    return folder
