"""Lambda_max over all thresholds and divisions: how sharp the optimum is."""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from prfaas.commands.planning.pictures.style import Picture, Theme, axes, label
from prfaas.planner.grid import Grid
from prfaas.planner.plan import Plan
from prfaas.planner.study import Question, Study
from prfaas.planner.sweep import grid_by_division

CLOSE = (0.9, 0.95)
"""Contours: within ten and within five percent of the best."""
MAX_COLUMNS = 400
"""Pixels are fewer than thresholds."""


def by_division(question: Question, study: Study) -> Picture:
    """As a map of thresholds and divisions, or as a line where there is no threshold to choose."""
    plan = study.plan
    grid = grid_by_division(question, plan.prefill_engines)
    if len(grid.thresholds_tokens) > 1:
        return _map(plan, grid, grid.is_allowed(question.slo))
    return _line(plan, grid)


def _map(plan: Plan, grid: Grid, is_allowed: npt.NDArray[np.bool_]) -> Picture:
    step = -(-len(grid.thresholds_tokens) // MAX_COLUMNS)
    thresholds = grid.thresholds_tokens[::step]
    served = np.where(is_allowed[:, None], grid.served, np.nan)[::step].T
    best = grid.thresholds_tokens[-1] if plan.threshold_tokens is None else float(plan.threshold_tokens)
    rows, columns = np.nonzero((grid.served >= CLOSE[1] * plan.requests_s) & is_allowed[:, None])
    low, high = grid.thresholds_tokens[rows.min()], grid.thresholds_tokens[rows.max()]
    fewest, most = grid.prefill_engines[columns.min()], grid.prefill_engines[columns.max()]
    engines = f"{fewest:.0f}" if fewest == most else f"{fewest:.0f} to {most:.0f}"

    masked = "" if is_allowed.all() else " Thresholds without a colour miss the objective for the first token."

    def draw(figure: Figure, theme: Theme) -> None:
        made = axes(figure, theme, "threshold t, uncached tokens", "local engines that prefill, $N_p$")
        made.grid(visible=False)
        shades = made.pcolormesh(
            thresholds, grid.prefill_engines, served, cmap="cividis", vmin=0, shading="nearest", rasterized=True
        )
        bar = figure.colorbar(shades, ax=made, pad=0.02)
        bar.set_label("most requests/s, $Λ_{\\mathrm{max}}$")
        bar.outline.set_visible(False)
        if min(served.shape) > 1:
            levels = [share * plan.requests_s for share in CLOSE]
            made.contour(
                thresholds,
                grid.prefill_engines,
                served,
                levels,
                colors="white",
                linewidths=1.4,
                linestyles=("dotted", "solid"),
            )
        made.plot(
            [best],
            [plan.prefill_engines],
            marker="*",
            markersize=20,
            color="#d5341f",
            markeredgecolor="white",
            markeredgewidth=1.2,
            clip_on=False,
            zorder=6,
        )
        made.xaxis.set_major_formatter(EngFormatter(sep=""))
        made.yaxis.set_major_locator(MaxNLocator(integer=True))

    return Picture(
        "division",
        "Every threshold and division",
        "The star is the plan. The dotted line encloses 90 % of its requests and more, the solid one 95 %: those "
        f"come with {engines} prefill engines and thresholds from {low:,.0f} to {high:,.0f} tokens: as "
        f"exactly as that both have to be kept.{masked}",
        "Heat map of the most requests a second, by threshold and number of local prefill engines. The best cell has "
        f"{plan.prefill_engines} prefill engines and {plan.requests_s:.3g} requests a second.",
        draw,
        5.0,
    )


def _line(plan: Plan, grid: Grid) -> Picture:
    def draw(figure: Figure, theme: Theme) -> None:
        made = figure.add_subplot()
        label(made, theme, "local engines that prefill, $N_p$", "most requests/s, $Λ_{\\mathrm{max}}$")
        made.plot(grid.prefill_engines, grid.served[0], "o-", color=theme.fleets["plan"], markersize=5)
        made.plot([plan.prefill_engines], [plan.requests_s], "*", markersize=20, color=theme.accent, zorder=5)
        made.set_ylim(0, plan.requests_s * 1.15)
        made.xaxis.set_major_locator(MaxNLocator(integer=True))

    return Picture(
        "division",
        "Every division of the local engines",
        "Nothing can be prefilled remotely, so there is no threshold to choose; the star is the plan.",
        f"Line chart of the most requests a second by number of local prefill engines; the best number is "
        f"{plan.prefill_engines}, with {plan.requests_s:.3g} requests a second.",
        draw,
    )
