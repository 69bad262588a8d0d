#!/usr/bin/python3
"""What --check finds worse, and what --update keeps."""

import contextlib
import io
import json
import os
import sys
import tempfile
import unittest

sys.path.insert(0, "tests/bench")
# pylint: disable=wrong-import-position
import report
from programs import Failed
from rows import Row


class NoPrograms:
    """Rows that run nothing."""

    def new_round(self):
        pass


def row(name, ratios, higher_is_better=False):
    """A row with these ratios, one for each round."""
    left = list(ratios)
    return Row(name, "us", "yardstick", lambda: [1, left.pop(0)],
               higher_is_better=higher_is_better)


class CheckTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        report.KEPT = os.path.join(directory.name, "ratios.json")

    def keep(self, ratios):
        with open(report.KEPT, "w", encoding="ascii") as file:
            json.dump(ratios, file)

    def check(self, *table, rounds=1):
        """How many rows are worse, and what is said of them."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            results = report.measure(NoPrograms(), table, rounds)
            found = report.check(NoPrograms(), table, results, rounds)
        return found, said.getvalue()

    def test_a_quarter_is_tolerated_in_both_directions(self):
        self.keep({"time": 1, "rate": 1})
        self.assertEqual(self.check(row("time", [1.24]), row("rate", [0.81], True))[0], 0)
        self.assertEqual(self.check(row("time", [0.1]), row("rate", [10], True))[0], 0)

    def test_worse_twice_is_worse(self):
        self.keep({"time": 1, "rate": 1})
        found, said = self.check(row("time", [1.3, 1.3]), row("rate", [0.7, 0.7], True))
        self.assertEqual(found, 2)
        self.assertIn("time: 1.3, kept 1", said)

    def test_worse_once_is_noise(self):
        self.keep({"time": 1})
        self.assertEqual(self.check(row("time", [2, 1]))[0], 0)

    def test_the_median_counts(self):
        self.keep({"time": 1})
        self.assertEqual(self.check(row("time", [9, 1, 1]), rounds=3)[0], 0)

    def test_a_row_without_a_kept_ratio_fails(self):
        found, said = self.check(row("new", [1]))
        self.assertEqual(found, 1)
        self.assertIn("new: no ratio is kept", said)

    def test_check_writes_nothing(self):
        self.keep({"time": 1})
        self.check(row("time", [2, 2]), row("new", [1]))
        self.assertEqual(report.read_kept(), {"time": 1})

    def test_update_keeps_the_rows_that_were_not_measured(self):
        self.keep({"time": 1, "other": 3})
        report.update(report.measure(NoPrograms(), [row("time", [2])], 1))
        self.assertEqual(report.read_kept(), {"time": 2, "other": 3})


class MeasureTest(unittest.TestCase):
    def results(self, measure):
        with contextlib.redirect_stderr(io.StringIO()):
            return report.measure(NoPrograms(), [Row("row", "us", "yardstick", measure)], 1)["row"]

    def test_once_is_once_in_all_rounds(self):
        measured = row("memory", [7])
        measured.once = True
        self.assertEqual(report.measure(NoPrograms(), [measured], 3)["memory"]["samples"], [[1, 7]])

    def test_what_is_no_number_fails(self):
        def failing():
            raise Failed("a request failed")
        for measure in (failing, lambda: [1], lambda: [1, float("nan")], lambda: [0, 1]):
            self.assertIsNone(self.results(measure))
        self.assertEqual(self.results(lambda: [2, 3])["ratio"], 1.5)


if __name__ == "__main__":
    unittest.main()
