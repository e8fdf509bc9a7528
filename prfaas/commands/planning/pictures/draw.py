"""All pictures of a plan, in the order in which a report shows them."""

from prfaas.commands.planning.pictures.division import by_division
from prfaas.commands.planning.pictures.first_token import first_token
from prfaas.commands.planning.pictures.purchases import more_of_each
from prfaas.commands.planning.pictures.stages import utilisation
from prfaas.commands.planning.pictures.style import Picture
from prfaas.commands.planning.pictures.threshold import by_threshold
from prfaas.planner.study import Question, Study


def pictures(question: Question, study: Study) -> tuple[Picture, ...]:
    """Those that make sense: without a remote site there is no threshold to show."""
    makers = [utilisation, by_threshold, by_division, first_token, more_of_each]
    if not question.hardware.has_remote:
        makers.remove(by_threshold)
    return tuple(maker(question, study) for maker in makers)
