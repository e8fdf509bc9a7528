"""What each stage allows, against the threshold: where the lines cross is equation 7."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from prfaas.commands.planning.pictures.style import DASHES, Picture, Theme, axes
from prfaas.planner.curve import FloatArray
from prfaas.planner.plan import StageName
from prfaas.planner.study import Question, Study
from prfaas.planner.sweep import limits_by_threshold

SHOWN = 2.4
"""Times Lambda_max: limits grow without end where few requests pass a stage."""


def by_threshold(question: Question, study: Study) -> Picture:
    """With the plan's division of the local engines."""
    plan = study.plan
    limits = limits_by_threshold(question, plan.prefill_engines)
    lines: dict[StageName, FloatArray] = {
        "remote prefill": limits.remote_prefill,
        "link": limits.link,
        "local prefill": limits.local_prefill,
        "local decode": limits.local_decode,
    }
    best = limits.thresholds_tokens[-1] if plan.threshold_tokens is None else float(plan.threshold_tokens)

    def draw(figure: Figure, theme: Theme) -> None:
        made = axes(figure, theme, "threshold t, uncached tokens", "requests/s that the fleet could serve")
        top = SHOWN * plan.requests_s
        for name, limit in lines.items():
            shown = np.where(np.isfinite(limit), limit, np.nan)
            said = name if np.nanmin(shown) < top else f"{name} (above)"
            made.plot(limits.thresholds_tokens, shown, label=said, color=theme.stages[name], linestyle=DASHES[name])
        made.fill_between(limits.thresholds_tokens, 0, limits.served, color=theme.faint, alpha=0.45, linewidth=0)
        if not limits.is_allowed.all():
            made.fill_between(
                limits.thresholds_tokens,
                0,
                top,
                where=(~limits.is_allowed).tolist(),
                facecolor="none",
                edgecolor=theme.ink,
                alpha=0.3,
                hatch="//",
                linewidth=0,
                label="misses the objective",
            )
        made.axvline(best, color=theme.accent, linewidth=1.2)
        made.plot([best], [plan.requests_s], "o", color=theme.accent, markersize=8, zorder=5)
        is_left = best > limits.thresholds_tokens[-1] * 0.6
        where = "nothing remote" if plan.threshold_tokens is None else f"t = {best:,.0f}"
        made.annotate(
            f"{where}\n{plan.requests_s:.3g} requests/s",
            (best, 0),
            xytext=(-8 if is_left else 8, 8),
            textcoords="offset points",
            ha="right" if is_left else "left",
            va="bottom",
            color=theme.accent,
            fontweight="bold",
        )
        made.set_xlim(0, limits.thresholds_tokens[-1])
        made.set_ylim(0, top)
        made.xaxis.set_major_formatter(EngFormatter(sep=""))
        made.legend(loc="upper right", ncols=2)

    return Picture(
        "threshold",
        "What each stage allows, by threshold",
        f"With {plan.prefill_engines} of the local engines prefilling. A line is the stage's Θ divided by the share of "
        "requests that pass it; the fleet serves what lies below all of them (shaded). A higher threshold relieves the "
        "remote site and the link, and burdens local prefill.",
        f"Line chart of the requests a second that remote prefill, link, local prefill and local decode allow, against "
        f"the threshold from 0 to {limits.thresholds_tokens[-1]:,.0f} tokens. The lowest of them is highest, "
        f"{plan.requests_s:.3g} requests a second, at "
        + ("the right end, where nothing is remote." if plan.threshold_tokens is None else f"{best:,.0f} tokens."),
        draw,
    )
