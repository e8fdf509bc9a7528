"""How pictures look: two themes, colours that colour-blind readers tell apart, and lines that differ without colour."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from prfaas.planner.plan import StageName

PNG_DPI = 110
"""The pictures are 9 inches wide: 990 pixels, and tens of kB."""
DASHES: dict[StageName, tuple[int, tuple[float, ...]] | str] = {
    "remote prefill": "-",
    "link": (0, (5, 2)),
    "local prefill": (0, (1, 1.2)),
    "local decode": (0, (6, 2, 1, 2)),
}
FLEET_DASHES = {"plan": "-", "all local": (0, (5, 2)), "all remote": (0, (1, 1.2))}


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of one background; stages and fleets are Okabe and Ito's (2008), shifted for contrast where need be."""

    ground: str
    ink: str
    faint: str
    accent: str
    stages: dict[StageName, str]
    fleets: dict[str, str]


LIGHT = Theme(
    "#ffffff",
    "#1c2430",
    "#c9d0d8",
    "#b3261e",
    {"remote prefill": "#0072b2", "link": "#b85400", "local prefill": "#00795a", "local decode": "#a8487e"},
    {"plan": "#0072b2", "all local": "#00795a", "all remote": "#b85400"},
)
DARK = Theme(
    "#151a21",
    "#e6eaf0",
    "#3b4552",
    "#ff8a80",
    {"remote prefill": "#56b4e9", "link": "#f0a04b", "local prefill": "#3fc79a", "local decode": "#e495c1"},
    {"plan": "#56b4e9", "all local": "#3fc79a", "all remote": "#f0a04b"},
)


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture before it is drawn.

    Attributes:
        name: of its file, without an ending.
        title: its heading.
        caption: how to read it.
        alt: what it shows, for who does not see it.
        draw: puts it into an empty figure.
        height_in: of 9 inches in width.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[Figure, Theme], None]
    height_in: float = 4.6


def png(picture: Picture) -> bytes:
    """On a light background."""
    return _drawn(picture, LIGHT, "png")


def svg(picture: Picture, theme: Theme) -> bytes:
    """As a file of its own; the same bytes for the same plan."""
    return _drawn(picture, theme, "svg")


def axes(figure: Figure, theme: Theme, x: str, y: str) -> Axes:
    """One pair of axes that fills the figure, with their labels and a faint grid."""
    made = figure.add_subplot()
    label(made, theme, x, y)
    return made


def label(made: Axes, theme: Theme, x: str, y: str) -> None:
    """Labels and a grid for axes."""
    made.set_xlabel(x)
    made.set_ylabel(y)
    made.grid(color=theme.faint, linewidth=0.6, alpha=0.6)
    made.set_axisbelow(True)
    made.spines[["top", "right"]].set_visible(False)


def _drawn(picture: Picture, theme: Theme, kind: str) -> bytes:
    sink = io.BytesIO()
    with mpl.rc_context(_settings(theme)), warnings.catch_warnings():
        # A title in a script that the font lacks is drawn with boxes, which is all that can be done.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure = Figure(figsize=(9, picture.height_in), layout="constrained")
        FigureCanvasAgg(figure)
        picture.draw(figure, theme)
        metadata = (
            {"Date": None, "Creator": None, "Type": None, "Format": None} if kind == "svg" else {"Software": None}
        )
        figure.savefig(sink, format=kind, dpi=PNG_DPI, metadata=metadata)
    return sink.getvalue()


def _settings(theme: Theme) -> dict[Any, object]:
    ink = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), theme.ink)
    ground = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), theme.ground)
    return {
        **ink,
        **ground,
        "font.family": "DejaVu Sans",  # comes with matplotlib, so a picture is the same on every machine
        "font.size": 11,
        "axes.titlesize": 11.5,
        "axes.linewidth": 0.8,
        "legend.facecolor": theme.ground,
        "legend.edgecolor": "none",
        "legend.framealpha": 0.85,
        "lines.linewidth": 2.2,
        "svg.fonttype": "path",
        "svg.hashsalt": "prfaas",
    }
