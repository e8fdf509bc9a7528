"""What is done of what the controller says."""

from collections.abc import Mapping, Sequence

from prfaas.config import Config
from prfaas.gateway.control.conversions import Conversions, Ended
from prfaas.gateway.control.history import History
from prfaas.gateway.services import GatewayServices
from prfaas.planner.controller.advice import Advice, Conversion


class Follower:
    """Follows advice in mode ``on``; in ``shadow`` says what would be done of it. Belongs to one event loop.

    Attributes:
        advice: the latest, None before the first.
        conversions: those under way.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._said: Mapping[Conversion, str] = {}
        self.advice: Advice | None = None
        self.conversions = Conversions()

    def forget(self) -> None:
        """The next advice is another controller's."""
        self.advice, self._said = None, {}

    def settle(self, services: GatewayServices) -> None:
        """Conversions go on, or end."""
        self._note_ended(services, self.conversions.step(services))

    def let_go(self, services: GatewayServices, why: str) -> None:
        """No conversion goes on."""
        self._note_ended(services, self.conversions.give_up(services, why))

    def convert(self, services: GatewayServices, wanted: Conversion) -> str:
        """Begin it because an operator says so, in every mode. Returns why that may not be, empty when it has begun."""
        if not (problem := self.conversions.begin(services, wanted, is_operators=True)):
            what = f"{wanted.engine} begins to be converted to {wanted.role}"
            self._history.add(services, "conversion", what, ("an operator said so",), is_operators=True)
        return problem

    def follow(self, services: GatewayServices, advice: Advice) -> None:
        """Do it, or say it. What was said of the same advice before is not said again."""
        before, self.advice = self.advice, advice
        said, self._said = self._said, {}
        is_told = self._follow_threshold(services, advice, before)
        for wanted in advice.conversions:
            is_told |= self._follow_conversion(services, advice, wanted, said)
        if advice.reasons and not is_told and (before is None or before.reasons != advice.reasons):
            self._history.add(services, "note", "; ".join(advice.reasons))

    def _follow_threshold(self, services: GatewayServices, advice: Advice, before: Advice | None) -> bool:
        """Returns whether there was something to say."""
        is_on = services.config.controller.mode == "on"
        wanted, former = threshold_of(services.config, advice), services.view.policy.threshold_tokens
        if before is not None and not is_on:
            former = threshold_of(services.config, before)
        if wanted == former:
            return False
        if is_on:
            services.view.set_threshold(wanted)
        what = f"threshold from {former} to {wanted} tokens"
        said = what if is_on else f"would set the {what}"
        self._history.add(services, "threshold", said, advice.reasons, is_brief=advice.is_brief)
        return True

    def _follow_conversion(
        self, services: GatewayServices, advice: Advice, wanted: Conversion, said: Mapping[Conversion, str]
    ) -> bool:
        """Returns whether there was something to say."""
        is_on = services.config.controller.mode == "on"
        problem = self.conversions.begin(services, wanted) if is_on else ""
        self._said = {**self._said, wanted: problem}
        if is_on and not problem:
            what = f"{wanted.engine} begins to be converted to {wanted.role}"
        elif said.get(wanted) == problem:
            return False
        elif problem:
            what = f"cannot convert {wanted.engine} to {wanted.role}: {problem}"
        else:
            what = f"would convert {wanted.engine} to {wanted.role}"
        self._history.add(services, "note" if problem else "conversion", what, advice.reasons)
        return True

    def _note_ended(self, services: GatewayServices, ended: Sequence[Ended]) -> None:
        for each in ended:
            if not each.is_operators:
                services.metrics.control.count_conversion(each.role, each.outcome)
            word = "is converted" if each.outcome == "converted" else "is not converted"
            what = f"{each.engine} {word} to {each.role}: {each.detail}"
            self._history.add(services, each.outcome, what, is_operators=each.is_operators)


def threshold_of(config: Config, advice: Advice) -> int:
    """The controller's threshold as placement has it: no prompt is longer than the model allows."""
    return config.model.max_model_len if advice.threshold_tokens is None else advice.threshold_tokens
