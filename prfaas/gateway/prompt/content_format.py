"""Whether a chat template wants the content of a message as a string or as a list of parts.

vLLM decides it by reading the template: one that walks through the content of a message in a loop gets parts. The
same question is asked here of the same syntax tree, in its usual spellings.
"""

from functools import lru_cache

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from prfaas.gateway.prompt.conversation import ContentFormat


class _GenerationBlock(Extension):
    """Lets ``{% generation %}`` parse, with which some templates mark the assistant's words."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=8)  # a model has one template, or a few by name
def content_format_of(template: str) -> ContentFormat:
    """The format for this template; a template that cannot be parsed gets strings."""
    # Only parsed, never rendered, so there is nothing to escape.
    environment = Environment(extensions=[_GenerationBlock, loopcontrols])
    try:
        tree = environment.parse(template)
    except TemplateSyntaxError:
        return "string"
    in_macros = {id(loop) for macro in tree.find_all(nodes.Macro) for loop in macro.find_all(nodes.For)}
    loops = [loop for loop in tree.find_all(nodes.For) if id(loop) not in in_macros]
    if any(_is_content(loop.iter, {"content"}) for loop in loops):
        return "openai"
    return "openai" if any(_macro_walks_content(macro, tree) for macro in tree.find_all(nodes.Macro)) else "string"


def _macro_walks_content(macro: nodes.Macro, tree: nodes.Template) -> bool:
    """Does this macro loop over the content of a message, which it may be given under any name?"""
    given: set[str] = set()
    names = [argument.name for argument in macro.args]
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == macro.name:
            given |= {name for name, value in zip(names, call.args, strict=False) if _is_content(value, set())}
            given |= {keyword.key for keyword in call.kwargs if _is_content(keyword.value, set())}
    return any(_is_content(loop.iter, given) for loop in macro.find_all(nodes.For))


def _is_content(node: nodes.Node | None, names: set[str]) -> bool:
    """Is this expression ``message.content``, ``message['content']``, or one of ``names``, filtered or sliced?"""
    while isinstance(node, nodes.Filter | nodes.Test) or (
        isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
    ):
        node = node.node
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "content"
    if isinstance(node, nodes.Getattr):
        return node.attr == "content"
    return isinstance(node, nodes.Name) and node.name in names
