"""What more of each thing would bring, and where it stops bringing anything."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from prfaas.commands.planning.pictures.style import Picture, Theme, label
from prfaas.commands.planning.scenario import GBIT_BYTES
from prfaas.commands.planning.words import purchase
from prfaas.planner.study import Question, Study
from prfaas.planner.sweep import Line, by_egress, by_local_engines, by_remote_engines


@dataclass(frozen=True, slots=True)
class _Panel:
    """One line, with the amount that there is now."""

    what: str
    line: Line
    now: float
    unit: float = 1.0


def more_of_each(question: Question, study: Study) -> Picture:
    """Lambda_max against bandwidth, remote engines and local engines, each with all else as it is."""
    hardware = question.hardware
    panels = []
    if hardware.remote is not None and hardware.remote_engines:
        egress = by_egress(question, study)
        panels.append(_Panel("bandwidth, Gbit/s", egress, hardware.egress_bytes_s, GBIT_BYTES))
    if hardware.remote is not None and hardware.egress_bytes_s:
        panels.append(_Panel("remote engines", by_remote_engines(question), hardware.remote_engines))
    panels.append(_Panel("local engines", by_local_engines(question), hardware.local_engines))

    def draw(figure: Figure, theme: Theme) -> None:
        top = 1.08 * max(float(each.line.served.max()) for each in panels)
        for made, panel in zip(np.ravel(figure.subplots(1, len(panels), sharey=True)), panels, strict=True):
            _draw(made, theme, panel, study.plan.requests_s, question.slo.first_token_p90_s)
            made.set_ylim(0, top)
        figure.axes[0].set_ylabel("most requests/s, $Λ_{\\mathrm{max}}$")
        if figure.axes[0].get_legend_handles_labels()[0]:
            figure.axes[0].legend(loc="lower right")

    return Picture(
        "purchases",
        "What to buy next",
        f"{purchase(study)} Each panel changes one thing and plans anew, the others being as they are; the dot is now.",
        f"Line charts of the most requests a second. {_in_words(panels)}",
        draw,
        4.2,
    )


def _draw(made: Axes, theme: Theme, panel: _Panel, now_requests_s: float, objective_s: float | None) -> None:
    amounts, served = panel.line.amounts / panel.unit, panel.line.served
    label(made, theme, panel.what, "")
    made.plot(amounts, served, "-", color=theme.fleets["plan"])
    made.axhline(now_requests_s, color=theme.ink, linewidth=0.8, linestyle=":")
    made.plot(
        [panel.now / panel.unit], [now_requests_s], "o", color=theme.accent, markersize=9, zorder=5, clip_on=False
    )
    made.set_xlim(0, amounts[-1])
    is_missed = [objective_s is not None and each.first_token_p90_s > objective_s for each in panel.line.plans]
    if any(is_missed):
        missed = made.plot(amounts[is_missed], served[is_missed], "x", color=theme.accent, markersize=7, clip_on=False)
        missed[0].set_label("misses the objective")
    if panel.unit == 1.0:
        made.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _in_words(panels: Sequence[_Panel]) -> str:
    said = []
    for panel in panels:
        line = panel.line
        low, high = line.amounts[0] / panel.unit, line.amounts[-1] / panel.unit
        said.append(f"From {low:.3g} to {high:.3g} {panel.what}: {line.served[0]:.3g} to {line.served[-1]:.3g}.")
    return " ".join(said)
