"""A byte-level tokenizer: token id = byte value, then the special tokens. Needs neither torch nor training."""

import json
from pathlib import Path

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS: dict[str, int] = {END_OF_TEXT: 256, IM_START: 257, IM_END: 258}
VOCABULARY_SIZE = 256 + len(SPECIAL_TOKENS)

CHAT_TEMPLATE = """\
{%- macro text(content) %}
    {%- if content is string %}
        {{- content }}
    {%- else %}
        {%- for part in content or [] if part.type == 'text' %}
            {{- part.text }}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages and messages[0].role == 'system' %}
        {{- text(messages[0].content) + '\\n\\n' }}
    {%- endif %}
    {{- 'Functions that you may call:\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson + '\\n' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- set rest = messages[1:] if tools and messages and messages[0].role == 'system' else messages %}
{%- for message in rest %}
    {{- '<|im_start|>' + message.role + '\\n' + text(message.content) }}
    {%- for call in message.tool_calls or [] %}
        {{- '\\n<tool_call>' + (call.function | tojson) + '</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""ChatML: one block a message, tools listed as JSON in the system block."""


def write_tokenizer(folder: Path, max_tokens: int) -> None:
    """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``chat_template.jinja``."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "clean_up_tokenization_spaces": False,
        "eos_token": IM_END,
        "pad_token": END_OF_TEXT,
    }
    (folder / "tokenizer.json").write_text(json.dumps(_definition(), indent=1))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def _definition() -> dict[str, object]:
    # The regular expression only cuts text into short pieces, which keeps encoding linear; without merges every piece
    # becomes its bytes.
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, **special} for token, i in SPECIAL_TOKENS.items()],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": _byte_names() | SPECIAL_TOKENS, "merges": []},
    }


def _byte_names() -> dict[str, int]:
    """The visible character that stands for each byte in a byte-level vocabulary, mapped to the byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    names = {chr(byte): byte for byte in printable}
    return names | {chr(0x100 + position): byte for position, byte in enumerate(hidden)}
