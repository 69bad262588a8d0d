#!/usr/bin/python3
"""Draws what run.sh --json has printed: hijacked programs against the same ones on the host.

Usage: plot.py [REPORT.json] >PLOT.svg     the report is the standard input unless named

One line for each figure that has a native yardstick, one bar for each mode, on a logarithmic scale
of speed: 1 is native, what is right of it is faster. A tick marks the bar that the figure has to
reach.
"""

import json
import math
import sys
from xml.sax.saxutils import escape

LABEL_WIDTH = 250
PLOT_WIDTH = 480
VALUE_WIDTH = 50
LINE_HEIGHT = 30
BAR_HEIGHT = 10
TOP = 60
# In both themes of a browser.
COLORS = {"hijacked": "#1f7a6d", "--no-direct": "#c08a2e"}
TITLES = {"hijacked": "default (direct pairs)", "--no-direct": "through the stack (--no-direct)"}
MARK = "#b02a37"


def speed(row, value):
    """A ratio as a speed: above 1 is faster than native."""
    return value if row["higher_is_better"] else 1 / value


def figures(report):
    """The rows to draw, by figure and mode, in the report's order."""
    found = {}
    for row in report["rows"]:
        if row.get("figure") and row["compared"] > 0:
            found.setdefault(row["figure"], {})[row["mode"]] = row
    return found


def bar_of(row):
    """The speed that a row has to reach, or None."""
    return speed(row, float(row["bar"].split()[1])) if row["bar"] else None


class Plot:
    """An SVG picture of figures."""

    def __init__(self, found):
        self._found = found
        speeds = [speed(row, row["compared"]) for rows in found.values() for row in rows.values()]
        # Whole powers of two on both sides of native.
        self._low = min(-1, math.floor(math.log2(min(speeds))))
        self._high = max(1, math.ceil(math.log2(max(speeds))))
        self._parts = []

    def _x(self, value):
        share = (math.log2(value) - self._low) / (self._high - self._low)
        return LABEL_WIDTH + PLOT_WIDTH * min(max(share, 0), 1)

    def _add(self, name, text="", **attributes):
        shown = "".join(f' {key.replace("_", "-")}="{value:.1f}"' if isinstance(value, float)
                        else f' {key.replace("_", "-")}="{value}"'
                        for key, value in attributes.items())
        self._parts.append(f"<{name}{shown}>{escape(text)}</{name}>" if text
                           else f"<{name}{shown}/>")

    def _legend(self):
        x = LABEL_WIDTH
        for mode, title in TITLES.items():
            self._add("rect", x=x, y=14, width=12, height=12, fill=COLORS[mode])
            self._add("text", title, x=x + 18, y=24)
            x += 170
        self._add("rect", x=x + 50, y=12, width=3, height=16, fill=MARK)
        self._add("text", "to reach", x=x + 60, y=24)

    def _scale(self, bottom):
        for power in range(self._low, self._high + 1):
            x = self._x(2.0 ** power)
            self._add("line", x1=x, y1=TOP - 8, x2=x, y2=bottom, stroke="#888",
                      stroke_width=2 if power == 0 else 0.5)
            name = "native" if power == 0 else f"{2 ** power}" if power > 0 else f"1/{2 ** -power}"
            self._add("text", name, x=x, y=TOP - 14, text_anchor="middle")

    def _line(self, y, figure, rows):
        self._add("text", figure, x=LABEL_WIDTH - 10, y=y + BAR_HEIGHT + 4, text_anchor="end")
        for mode, row in rows.items():
            if mode == "--no-direct":
                y += BAR_HEIGHT + 1
            value = speed(row, row["compared"])
            left, right = sorted((self._x(1), self._x(value)))
            self._add("rect", x=left, y=y, width=right - left, height=BAR_HEIGHT,
                      fill=COLORS[mode])
            self._add("text", f"{value:.2f}", x=LABEL_WIDTH + PLOT_WIDTH + 8, y=y + 9)
            bar = bar_of(row)
            if bar:
                self._add("rect", x=self._x(bar) - 1.5, y=y - 1, width=3, height=BAR_HEIGHT + 2,
                          fill=MARK)

    def svg(self):
        bottom = TOP + LINE_HEIGHT * len(self._found)
        width, height = LABEL_WIDTH + PLOT_WIDTH + VALUE_WIDTH, bottom + 12
        self._legend()
        self._scale(bottom)
        for index, (figure, rows) in enumerate(self._found.items()):
            self._line(TOP + LINE_HEIGHT * index, figure, rows)
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>', *self._parts, "</svg>", ""])


def main():
    with open(sys.argv[1], encoding="utf-8") if len(sys.argv) > 1 else sys.stdin as file:
        found = figures(json.load(file))
    if not found:
        sys.exit("plot.py: the report has no figure with a native yardstick")
    sys.stdout.write(Plot(found).svg())


if __name__ == "__main__":
    main()
