"""What a plan leaves on the disk."""

from pathlib import Path

import yaml

from prfaas.commands.planning.pictures.draw import pictures
from prfaas.commands.planning.pictures.style import png
from prfaas.commands.planning.report import report
from prfaas.commands.planning.scenario import Scenario
from prfaas.errors import ConfigError
from prfaas.planner.study import Study


def write(folder: Path, document: str, scenario: Scenario, study: Study) -> Path:
    """Write plan.json, report.html and a PNG of each picture; other files of the folder stay.

    Returns:
        The report.

    Raises:
        ConfigError: a folder that cannot be written to.
    """
    shown = pictures(scenario.question, study)
    settings = yaml.safe_dump(scenario.file.model_dump(exclude_none=True), sort_keys=False, allow_unicode=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.json").write_text(f"{document}\n", encoding="utf-8")
        for picture in shown:
            (folder / f"{picture.name}.png").write_bytes(png(picture))
        path = folder / "report.html"
        path.write_text(report(scenario, study, shown, settings), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be written to: {error.strerror}") from None
    return path
