"""A chat request as the arguments of its chat template, in the form that vLLM gives them.

Only forms whose rendering is known to equal vLLM's are taken; for all others ``CannotRender`` says why, and the
request goes to the engine as it came. That is always right and costs no more than the chance of a remote prefill.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prfaas.errors import PrfaasError

ContentFormat = Literal["string", "openai"]
"""How a template wants text: as a string, or as a list of parts that it walks through."""

_MESSAGE_KEYS = {"role", "content", "name", "tool_calls", "tool_call_id"}
_ROLES = {"system", "user", "assistant", "tool"}
_REWRITTEN_SYSTEM_PREFIX = "x-anthropic-billing-header"
_ENGINE_ONLY = ("chat_template", "documents", "mm_processor_kwargs", "media_io_kwargs")
"""Fields that change the rendering in ways that depend on the engine's own flags."""


class CannotRender(PrfaasError):
    """Only an engine can turn this prompt into tokens; the message says why, without quoting the prompt."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Arguments for the chat template: the messages, the tools, and the template's variables."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    variables: dict[str, Any]


def conversation_of(body: Mapping[str, Any], content_format: ContentFormat, reserved: frozenset[str]) -> Conversation:
    """Bring a chat request into template form.

    Args:
        body: the request; ``messages`` is a list that is not empty.
        content_format: what the template wants.
        reserved: names that ``chat_template_kwargs`` may not carry, because the renderer has its own use for them.

    Raises:
        CannotRender: the request has something whose rendering is vLLM's secret.
    """
    for field in _ENGINE_ONLY:
        if body.get(field) is not None:
            raise CannotRender(f"{field} is applied by the engine")
    messages = [_message(message, content_format) for message in body["messages"]]
    return Conversation(messages, _tools(body), _variables(body, reserved))


def _message(message: object, content_format: ContentFormat) -> dict[str, Any]:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(role, str) or role not in _ROLES:
        raise CannotRender("a message has a role that the engine adapts to the template")
    if any(value for key, value in message.items() if key not in _MESSAGE_KEYS):
        raise CannotRender("a message has fields beyond role, content, name and tool calls")
    texts = _texts(message.get("content"), role)
    if role == "system" and any(text.startswith(_REWRITTEN_SYSTEM_PREFIX) for text in texts):
        raise CannotRender("the system message is rewritten by the engine")
    result: dict[str, Any] = {"role": role, "content": _content(texts, content_format, role)}
    if role == "assistant" and message.get("tool_calls"):
        result["tool_calls"] = _tool_calls(message["tool_calls"])
    if role == "tool" and "tool_call_id" in message:
        result["tool_call_id"] = _text(message["tool_call_id"])
    if isinstance(message.get("name"), str):
        result["name"] = message["name"]
    return result


def _texts(content: object, role: str) -> list[str]:
    if content is None and role == "assistant":
        return []
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise CannotRender("a message has content that is neither text nor parts")
    return [_text_part(part) for part in content]


def _text_part(part: object) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and part.keys() == {"type", "text"}:
        return _text(part["text"])
    raise CannotRender("a message has parts other than plain text")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise CannotRender("a message has a field of an unexpected type")
    return value


def _content(texts: list[str], content_format: ContentFormat, role: str) -> str | list[dict[str, str]]:
    """vLLM's rules: text parts are joined by newlines, empty ones dropped; a tool's answer is always a string."""
    if content_format == "string":
        return "\n".join(filter(None, texts))
    if role == "tool" and texts:
        return "\n".join(texts)
    return "" if role == "tool" else [{"type": "text", "text": text} for text in texts]


def _tool_calls(calls: object) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise CannotRender("tool calls are not a list")
    return [_tool_call(call) for call in calls]


def _tool_call(call: object) -> dict[str, Any]:
    """A tool call with its arguments as an object, which is what templates expect."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or call.get("type") != "function":
        raise CannotRender("a tool call is not a function call")
    if call.keys() != {"id", "type", "function"} or function.keys() != {"name", "arguments"}:
        raise CannotRender("a tool call has unusual fields")
    if not isinstance(function["arguments"], str):
        raise CannotRender("a tool call has arguments that are not a JSON text")
    named = {"arguments": _arguments(function["arguments"]), "name": _text(function["name"])}
    return {"id": _text(call["id"]), "function": named, "type": "function"}


def _arguments(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text) if text else {}
    except ValueError:
        return {}
    except RecursionError:
        raise CannotRender("a tool call has arguments that are nested too deeply") from None
    return arguments if isinstance(arguments, dict) else {}


def _tools(body: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    tools = body.get("tools")
    if tools is None:
        return None
    if body.get("tool_choice") == "none":
        raise CannotRender("whether unused tools are shown is a flag of the engine")
    if not isinstance(tools, list):
        raise CannotRender("tools are not a list")
    return [_tool(tool) for tool in tools]


def _tool(tool: object) -> dict[str, Any]:
    """A tool as vLLM's own schema writes it: fixed order, absent description and parameters as null."""
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(tool, dict) or not isinstance(function, dict) or tool.keys() != {"type", "function"}:
        raise CannotRender("a tool is not a plain function")
    if not function.keys() <= {"name", "description", "parameters", "strict"} or tool["type"] != "function":
        raise CannotRender("a tool has unusual fields")
    schema = {"name": function.get("name"), "description": function.get("description")}
    schema["parameters"] = function.get("parameters")
    if function.get("strict") is not None:
        schema["strict"] = function["strict"]
    return {"type": "function", "function": schema}


def _variables(body: Mapping[str, Any], reserved: frozenset[str]) -> dict[str, Any]:
    given = body.get("chat_template_kwargs") or {}
    if not isinstance(given, dict) or given.keys() & reserved:
        raise CannotRender("chat_template_kwargs has names that the engine treats specially")
    variables = dict(given)
    for flag, default in (("add_generation_prompt", True), ("continue_final_message", False)):
        variables[flag] = body.get(flag, default)
        if not isinstance(variables[flag], bool):
            raise CannotRender(f"{flag} is not true or false")
    if body.get("reasoning_effort") is not None:
        variables["reasoning_effort"] = _text(body["reasoning_effort"])
        variables.setdefault("enable_thinking", body["reasoning_effort"] != "none")
    # Unset to vLLM means null or "auto"; a template may tell an unset variable from a null one.
    return {name: value for name, value in variables.items() if value not in (None, "auto")}
