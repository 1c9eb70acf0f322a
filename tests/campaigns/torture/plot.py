"""The plot of recovery times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from pathlib import Path

COLORS = {"sqlite": "#4c78a8", "redis": "#e45756", "postgres": "#54a24b"}


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draw each campaign's recovery times; equal figures give an identical file."""
    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "torture", "svg.fonttype": "none", "font.size": 9}
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.32 * len(results)), layout="constrained")
    for place, each in enumerate(reversed(results)):
        color = COLORS.get(each["backend"], "#888888")
        # A logarithmic axis has no zero.
        times = [max(seconds, 1e-4) for seconds in each["recovery_seconds"]]
        box = {"color": color}
        axes.boxplot(
            times, positions=[place], orientation="horizontal", widths=0.55, whis=(1, 99), showfliers=False,
            boxprops=box, whiskerprops=box, capprops=box, medianprops=box | {"linewidth": 2},
        )  # fmt: skip
        axes.plot(max(times), place, "o", color=color, markersize=4)
    axes.set_yticks(range(len(results)), [f"{each['campaign']}, {each['backend']}" for each in reversed(results)])
    axes.set_xscale("log")
    axes.set_xlabel("seconds from the fault's end until work resumes: quartiles, 1 % to 99 %, the longest")
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
