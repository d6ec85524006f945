"""The figures of a report: matplotlib's SVG as `data:` URIs, the same bytes for the same numbers.

Only digits and our own English words stand in a figure: fonts for the labels' script may be
missing, so labels are numbered here and named in the page.
"""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bert_tf.reporting.measures import Calibration

_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#767676"  # told apart by colour-blind readers too
CURVE_POINTS = 400  # of a curve; more are not seen, and make a heavy page
_RASTER_DPI = 200  # of what is drawn as pixels inside the SVG
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": _GREY,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "font.size": 9,
    "grid.color": "#e0e0e0",
    "svg.hashsalt": "bert_tf",  # else the ids inside are random
}


class _Drawing:
    """A figure in the making, and then its URI."""

    def __init__(self, figure: Any):
        self.figure = figure
        self.uri = ""


@contextlib.contextmanager
def _drawing(width: float, height: float) -> Iterator[_Drawing]:
    """A figure of so many inches; on leaving the block it is drawn."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's own matplotlibrc says
        matplotlib.rcParams.update(_STYLE)
        drawing = _Drawing(Figure((width, height), dpi=_RASTER_DPI, layout="constrained"))
        yield drawing
        svg = io.BytesIO()
        unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        drawing.figure.savefig(svg, format="svg", metadata=unsaid)
    drawing.uri = f"data:image/svg+xml;base64,{base64.b64encode(svg.getvalue()).decode()}"


def curve(values: Mapping[int, float]) -> str:
    """Value by step; of many steps the means of neighbours, in the band of their extremes."""
    with _drawing(4.6, 2.5) as drawing:
        axes = drawing.figure.subplots()
        steps, heights = np.array(list(values)), np.array(list(values.values()))
        if len(steps) > CURVE_POINTS:
            cuts = np.linspace(0, len(steps), CURVE_POINTS + 1).astype(int)
            lowest, highest = (f.reduceat(heights, cuts[:-1]) for f in (np.minimum, np.maximum))
            sizes = np.diff(cuts)
            steps, heights = (np.add.reduceat(x, cuts[:-1]) / sizes for x in (steps, heights))
            axes.fill_between(steps, lowest, highest, color=_BLUE, alpha=0.25, linewidth=0)
        axes.plot(steps, heights, color=_BLUE, linewidth=1.3, marker="." if len(steps) < 30 else "")
        axes.set_xlabel("step")
    return drawing.uri


def confusion(matrix: np.ndarray) -> str:
    """`[L, L]` counts as an image: of each true class (a row), the shares of the predictions."""
    from matplotlib.colors import PowerNorm

    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    with _drawing(6.4, 5.4) as drawing:
        axes = drawing.figure.subplots()
        # The square root makes the few wrong ones of a class visible.
        norm = PowerNorm(0.5, 0, 1)
        image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
        axes.grid(False)
        axes.set_xlabel("number of the predicted class")
        axes.set_ylabel("number of the true class")
        bar = drawing.figure.colorbar(image, shrink=0.8, label="share of the true class's examples")
        bar.set_ticks([0, 0.05, 0.2, 0.5, 1])
    return drawing.uri


def reliability(calibration: Calibration) -> str:
    """The share that came true by probability, and below how many examples each bin has."""
    bins = calibration.bins
    middles = np.array([(b.low + b.high) / 2 for b in bins])
    width = 1 / len(bins)
    with _drawing(4.6, 4.4) as drawing:
        upper, lower = drawing.figure.subplots(2, sharex=True, height_ratios=[3, 1])
        filled = [b for b in bins if b.size]
        places = [(b.low + b.high) / 2 for b in filled]
        upper.bar(places, [b.accuracy for b in filled], width * 0.92, color=_BLUE, label="observed")
        upper.plot([0, 1], [0, 1], color=_GREY, linestyle="--", label="perfectly calibrated")
        upper.plot(
            [b.confidence for b in filled],
            [b.accuracy for b in filled],
            **{"color": _ORANGE, "marker": "o", "markersize": 4, "linestyle": ""},
            label="at the bin's mean probability",
        )
        upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that came true")
        upper.legend(loc="upper left", fontsize=8)
        lower.bar(middles, [b.size for b in bins], width * 0.92, color=_GREY)
        lower.set(xlabel="predicted probability", ylabel="count")
    return drawing.uri


def scatter(expected: np.ndarray, predicted: np.ndarray) -> str:
    """Predicted against true numbers; the dashed line is where they are equal."""
    ends = [min(expected.min(), predicted.min()), max(expected.max(), predicted.max())]
    with _drawing(4.6, 4.2) as drawing:
        axes = drawing.figure.subplots()
        axes.plot(ends, ends, color=_GREY, linestyle="--")
        _points(axes, expected, predicted)
        axes.set(xlabel="true", ylabel="predicted")
    return drawing.uri


def residuals(expected: np.ndarray, predicted: np.ndarray) -> str:
    """Predicted minus true against predicted, and how often each residual is."""
    errors = predicted - expected
    with _drawing(5.4, 4.2) as drawing:
        left, right = drawing.figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
        left.axhline(0, color=_GREY, linestyle="--")
        _points(left, predicted, errors)
        left.set(xlabel="predicted", ylabel="predicted - true")
        right.hist(errors, bins=30, orientation="horizontal", color=_GREY)
        right.set_xlabel("count")
    return drawing.uri


def _points(axes: Any, x: np.ndarray, y: np.ndarray) -> None:
    # As pixels: a page of 40,000 drawn circles would not open.
    axes.scatter(x, y, s=9, color=_BLUE, alpha=0.45, linewidths=0, rasterized=True)
