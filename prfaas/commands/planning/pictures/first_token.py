"""Seconds to the first token: what users of each fleet would feel with nothing waiting."""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, PercentFormatter

from prfaas.commands.planning.pictures.style import FLEET_DASHES, Picture, Theme, axes
from prfaas.commands.planning.words import fleets
from prfaas.planner.first_token import prefill_seconds
from prfaas.planner.study import Question, Study

SHARES = np.linspace(0.0, 1.0, 401)


def first_token(question: Question, study: Study) -> Picture:
    """The distribution for the plan and what it is compared with."""
    lines, p90s = {}, []
    for name, plan in fleets(study):
        threshold = math.inf if plan.threshold_tokens is None else float(plan.threshold_tokens)
        lines[name] = prefill_seconds(question.hardware, question.workload, threshold).quantiles_s(SHARES)
        p90s.append(f"{name} {plan.first_token_p90_s:.3g} s")
    objective_s = question.slo.first_token_p90_s

    def draw(figure: Figure, theme: Theme) -> None:
        made = axes(figure, theme, "prefill with nothing waiting, s (logarithmic)", "requests that take no longer")
        for name, seconds in lines.items():
            made.plot(seconds, SHARES, label=name, color=theme.fleets[name], linestyle=FLEET_DASHES[name])
        made.axhline(0.9, color=theme.ink, linewidth=0.8, linestyle=":")
        made.annotate("P90", (1.0, 0.9), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=10)
        if objective_s is not None:
            made.axvline(objective_s, color=theme.accent, linewidth=1.4)
            made.annotate(
                f"objective {objective_s:g} s",
                (objective_s, 0.03),
                xytext=(5, 0),
                textcoords="offset points",
                color=theme.accent,
                fontweight="bold",
            )
        made.set_xscale("log")
        made.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        made.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        made.xaxis.set_minor_formatter(NullFormatter())
        made.yaxis.set_major_formatter(PercentFormatter(1.0))
        made.set_ylim(0, 1.02)
        made.legend(loc="center right")

    objective = f" The objective for nine in ten is {objective_s:g} s." if objective_s is not None else ""
    return Picture(
        "first_token",
        "Time to the first token",
        "Of a prefill alone, as the model has it: no queue, no transfer, no decode step; the simulator has them. "
        f"Where a line crosses 90 %: {', '.join(p90s)}.{objective}",
        f"Cumulative distribution of prefill seconds. P90: {', '.join(p90s)}.{objective}",
        draw,
        4.2,
    )
