import pytest

from prfaas.gateway.prompt.content_format import content_format_of
from tests.gateway.prompt.samples import FORMATS, TEMPLATES


@pytest.mark.parametrize("name", TEMPLATES)
def test_format_is_read_from_the_template(name: str) -> None:
    """A template that loops over the content of messages gets parts, any other a string."""
    assert content_format_of(TEMPLATES[name]) == FORMATS[name]


@pytest.mark.parametrize("template", ["{% for m in", "", "plain words"])
def test_template_without_a_loop_gets_strings(template: str) -> None:
    """What cannot be parsed, or has no loop, gets strings."""
    assert content_format_of(template) == "string"
