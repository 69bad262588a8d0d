#!/bin/bash
# Every row of the benchmarks' table yields numbers, the plot can be drawn of them, and what is kept
# are rows. How good the numbers are is not for a test.
set -euo pipefail
# shellcheck source=tests/private_network.sh
source tests/private_network.sh

report=$TEST_TMPDIR/report.json
/usr/bin/python3 tests/bench/report.py "$PWD" --quick --json >"$report"
/usr/bin/python3 tests/bench/plot.py "$report" >"$TEST_TMPDIR/plot.svg"
/usr/bin/python3 - "$report" "$TEST_TMPDIR/plot.svg" tests/bench/ratios.json <<'END'
import json
import sys
import xml.dom.minidom

report, plot, kept = sys.argv[1:]
with open(report, encoding="utf-8") as file:
    rows = {row["name"]: row for row in json.load(file)["rows"]}
assert len(rows) > 60, len(rows)
for name, row in rows.items():
    for number in ("yardstick_median", "ours_median", "compared", "ratio"):
        assert isinstance(row[number], (int, float)), (name, number)
xml.dom.minidom.parse(plot)
with open(kept, encoding="ascii") as file:
    kept_rows = json.load(file).keys()
assert kept_rows <= rows.keys(), kept_rows - rows.keys()
END
