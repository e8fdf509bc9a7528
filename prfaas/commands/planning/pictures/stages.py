"""How busy each stage is when the fleet serves the most that it can."""

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from prfaas.commands.planning.pictures.style import Picture, Theme
from prfaas.commands.planning.words import binding, is_binding
from prfaas.planner.study import Question, Study


def utilisation(_: Question, study: Study) -> Picture:
    """A bar for each stage that requests pass."""
    plan = study.plan
    stages = [each for each in plan.stages if each.share > 0]

    def draw(figure: Figure, theme: Theme) -> None:
        made = figure.add_subplot()
        names = [each.name for each in stages]
        bars = made.barh(names, [each.utilisation for each in stages], color=[theme.stages[each] for each in names])
        made.barh(names, [1.0] * len(names), color=theme.faint, alpha=0.35, zorder=0)
        for bar, stage in zip(bars, stages, strict=True):
            said = f"{stage.utilisation:.0%}{'  binds' if is_binding(stage) else ''}"
            is_wide = stage.utilisation > 0.25
            made.annotate(
                said,
                (stage.utilisation, bar.get_y() + bar.get_height() / 2),
                xytext=(-8 if is_wide else 8, 0),
                textcoords="offset points",
                ha="right" if is_wide else "left",
                va="center",
                color=theme.ground if is_wide else theme.ink,
                fontweight="bold",
            )
        made.set_xlim(0, 1)
        made.invert_yaxis()
        made.xaxis.set_major_formatter(PercentFormatter(1.0))
        made.set_xlabel(f"busy, when the fleet serves {plan.requests_s:.3g} requests/s")
        made.tick_params(axis="y", length=0)
        made.spines[["top", "right", "left"]].set_visible(False)

    busy = ", ".join(f"{each.name} {each.utilisation:.0%}" for each in stages)
    return Picture(
        "utilisation",
        "How busy each stage is",
        f"At the most requests/s, where {binding(plan)}: what is far from 100 % is larger than it needs to be.",
        f"Bar chart of utilisation: {busy}.",
        draw,
        0.7 + 0.6 * len(stages),
    )
