"""Runs the benchmarks in interleaved rounds and prints a table; run.sh builds and calls it.

A ratio compares two runs of the same round, so that a load that comes and goes hits both; the table
has the medians over the rounds. Speed is no test: the exit status is 1 if a benchmark could not be
run, or if --check finds a ratio worse than the kept one.
"""

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys

from programs import Failed, Programs
from rows import all_rows

KEPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ratios.json")
# How much worse than the kept one a ratio may be.
TOLERANCE = 0.25


def measure(programs, table, rounds):
    """The results of rows, by name; None of what failed."""
    samples = {row.name: [] for row in table}
    for _ in range(rounds):
        programs.new_round()
        for row in table:
            if samples[row.name] is None or (row.once and samples[row.name]):
                continue
            try:
                pair = row.measure()
                if not all(math.isfinite(value)
                           for value in (*pair, row.compare(*pair), row.checked(*pair))):
                    raise Failed(f"not finite: {pair}")
                samples[row.name].append(pair)
            except (Failed, OSError, subprocess.SubprocessError, ValueError, TypeError, LookupError,
                    ArithmeticError) as error:
                print(f"{row.name}: {error}", file=sys.stderr, flush=True)
                samples[row.name] = None
    return {row.name: None if samples[row.name] is None else result(row, samples[row.name])
            for row in table}


def result(row, samples):
    compared = statistics.median(row.compare(*pair) for pair in samples)
    return {
        "name": row.name, "unit": row.unit, "yardstick": row.yardstick,
        "yardstick_median": statistics.median(pair[0] for pair in samples),
        "ours_median": statistics.median(pair[1] for pair in samples),
        "compared": compared, "compared_unit": row.comparison_unit,
        "bar": row.bar(), "verdict": row.verdict(compared),
        "ratio": statistics.median(row.checked(*pair) for pair in samples),
        "higher_is_better": row.higher_is_better, "figure": row.figure, "mode": row.mode,
        "samples": samples,
    }


def print_table(table, results, rounds):
    print(f"{'':44} {'yardstick':>15} {'':>9} {'ours':>9} {'':4} {'ratio':>9}  {'bar':7}")
    for row in table:
        if results[row.name] is None:
            print(f"{row.name:44} FAILED")
            continue
        print("{name:44} {yardstick:>15} {yardstick_median:9.4g} {ours_median:9.4g} {unit:4} "
              "{compared:7.2f}{compared_unit:2}  {bar:7} {verdict}".format(**results[row.name]))
    print(f"medians of {rounds} rounds; ratios are taken within a round; "
          f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")


def read_kept():
    try:
        with open(KEPT, encoding="ascii") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def worse(row, ratio, kept):
    """Whether a ratio is worse than the kept one by more than TOLERANCE."""
    better, other = (ratio, kept) if row.higher_is_better else (kept, ratio)
    return better * (1 + TOLERANCE) < other


def check(programs, table, results, rounds):
    """Says which ratios are worse than the kept ones, in two measurements, and returns how many."""
    kept = read_kept()
    unknown = [row.name for row in table if row.name not in kept]
    for name in unknown:
        print(f"{name}: no ratio is kept; --update keeps this one", file=sys.stderr)

    def suspects(rows):
        return [row for row in rows if row.name in kept and results[row.name] is not None
                and worse(row, results[row.name]["ratio"], kept[row.name])]

    again = suspects(table)
    results.update(measure(programs, again, rounds))
    worse_ones = suspects(again)
    for row in worse_ones:
        print(f"{row.name}: {results[row.name]['ratio']:.3g}, kept {kept[row.name]:.3g}: worse by "
              f"more than {TOLERANCE:.0%}, twice", file=sys.stderr)
    return len(unknown) + len(worse_ones)


def update(results):
    kept = read_kept()
    kept.update({name: float(f"{found['ratio']:.3g}") for name, found in results.items() if found})
    with open(KEPT, "w", encoding="ascii") as file:
        json.dump(kept, file, indent=1, sort_keys=True)
        file.write("\n")


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run.sh")
    parser.add_argument("bin", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (3)")
    parser.add_argument("--only", action="append", metavar="TEXT",
                        help="only rows whose name contains this; again for more rows")
    parser.add_argument("--json", action="store_true", help="JSON in place of the table")
    parser.add_argument("--check", action="store_true",
                        help="fail if a ratio is worse than the kept one by more than "
                             f"{TOLERANCE:.0%}".replace("%", "%%"))
    parser.add_argument("--update", action="store_true", help="keep these ratios in ratios.json")
    parser.add_argument("--quick", action="store_true",
                        help="one short round: whether everything runs, the numbers mean little")
    options = parser.parse_args()
    # So that it ends the servers that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.quick and (options.check or options.update):
        parser.error("--quick ratios can be neither checked nor kept")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    rounds = 1 if options.quick else options.rounds

    programs = Programs(options.bin, options.quick)
    table = [row for row in all_rows(programs)
             if any(text in row.name for text in options.only or [""])]
    if not table:
        parser.error(f"no row has {' or '.join(map(repr, options.only))} in its name")
    results = measure(programs, table, rounds)
    worse_ones = check(programs, table, results, rounds) if options.check else 0
    if options.json:
        print(json.dumps({"load": os.getloadavg()[0], "cpus": os.cpu_count(), "rounds": rounds,
                          "rows": [results[row.name] or {"name": row.name, "verdict": "FAILED"}
                                   for row in table]}, indent=1))
    else:
        print_table(table, results, rounds)
    if options.update:
        update(results)
    return 1 if worse_ones or None in results.values() else 0


if __name__ == "__main__":
    sys.exit(main())
