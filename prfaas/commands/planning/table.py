"""The plan in a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prfaas.commands.planning import words
from prfaas.commands.planning.scenario import Scenario
from prfaas.planner.plan import Plan
from prfaas.planner.study import Study

BAR_CELLS = 20


def show(console: Console, scenario: Scenario, study: Study) -> None:
    """Print the answer, then what it rests on."""
    console.print(Text(scenario.file.title, style="bold"))
    console.print(Text(words.verdict(study)), "\n")
    console.print(_stages(study.plan))
    console.print(_comparison(study))
    console.print(_purchases(study))
    facts = {
        "workload": words.workload(scenario),
        "load": words.load(scenario, study),
        "bandwidth": words.bandwidth(scenario, study),
        "buy next": words.purchase(study),
    }
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for what, said in facts.items():
        if said:
            grid.add_row(what, Text(said))
    for reason in study.plan.reasons:
        grid.add_row("reason", Text(reason, style="yellow"))
    for caveat in study.plan.caveats:
        grid.add_row("caveat", Text(caveat, style="dim"))
    console.print(grid)


def _stages(plan: Plan) -> Table:
    table = _table("Stages, when the fleet serves the most that it can")
    for heading in ("stage", "Θ, requests/s", "share", "busy"):
        table.add_column(heading, justify="left" if heading in ("stage", "busy") else "right")
    for stage in plan.stages:
        is_used = stage.share > 0
        filled = round(min(stage.utilisation, 1.0) * BAR_CELLS)
        bar = Text("█" * filled + "·" * (BAR_CELLS - filled), style="red" if words.is_binding(stage) else "cyan")
        bar.append(f" {stage.utilisation:4.0%}{' binds' if words.is_binding(stage) else ''}")
        rate = f"{stage.requests_s:.3g}" if is_used else "-"
        table.add_row(stage.name, rate, f"{stage.share:.0%}", bar if is_used else Text("not used", style="dim"))
    return table


def _comparison(study: Study) -> Table:
    columns, rows = words.comparison(study)
    table = _table("Beside the fleets without a choice")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", style="bold" if name == "plan" else "")
    for row in rows:
        table.add_row(row.what, *row.figures)
    return table


def _purchases(study: Study) -> Table:
    table = _table("What one more of each thing would bring, requests/s")
    for heading in ("", "gain", "then", "t, tokens", "engines", "binds then"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in words.options(study):
        table.add_row(row.what, *row.figures)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
