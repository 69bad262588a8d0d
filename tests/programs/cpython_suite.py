"""cpython_suite.py FAILED MODULE...: runs modules of CPython's own test suite.

Writes the ids of the tests that fail into the file FAILED, and how many have run to the standard
output. A test that fails is tried again alone, since many depend on times. One that hangs fails.
"""

import collections
import concurrent.futures
import faulthandler
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

PATIENCE = 60
TRIES = 3
# Hangs in every network without VSOCK's other side.
EXCLUDED = 'test.test_socket.ThreadedVSOCKSocketStreamTest.testStream'
# A busy machine, and not the sockets, would decide on tests that depend on times.
MODULES_AT_ONCE = 2


class Recorder(unittest.TextTestResult):
    """Writes "STATE ID" for each test: started, then ok, failed or skipped."""

    out = None

    def record(self, state, test):
        print(state, test.id(), file=self.out, flush=True)

    def startTest(self, test):
        super().startTest(test)
        self.record('started', test)
        faulthandler.dump_traceback_later(PATIENCE, exit=True)

    def stopTest(self, test):
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.record('ok', test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.record('failed', test)

    def addError(self, test, err):
        super().addError(test, err)
        self.record('failed', test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.record('failed', test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.record('skipped', test)

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.record('ok', test)


def keep(suite, wanted):
    """Takes all tests out of `suite` that are not wanted(id)."""
    kept = []
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            keep(test, wanted)
            kept.append(test)
        elif wanted(test.id()):
            kept.append(test)
    suite._tests = kept


def read_states(results):
    """The last state of each test, in the order of their starts; failed is final."""
    states = collections.OrderedDict()
    for line in results.read_text().splitlines():
        state, name = line.split(maxsplit=1)
        if states.get(name) != 'failed' or state == 'started':
            states[name] = state
    return states


def run_here(module, results, only):
    """Runs the tests `only`, or else all that `results` does not know yet."""
    from test import support
    support.use_resources = ['network']
    support.verbose = False
    suite = unittest.defaultTestLoader.loadTestsFromName('test.' + module)
    done = {EXCLUDED, *read_states(results)}
    keep(suite, (lambda name: name in only) if only else (lambda name: name not in done))
    with open(results, 'a') as Recorder.out:
        unittest.TextTestRunner(resultclass=Recorder).run(suite)


def run_apart(module, results, only=()):
    """The same in a process of its own, and in another one after each test that hangs."""
    while True:
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run([sys.executable, os.path.abspath(__file__), '--here', module, results,
                            *only], cwd=directory, stdin=subprocess.DEVNULL, stdout=sys.stderr,
                           check=False)
        states = read_states(results)
        hanging = [name for name, state in states.items() if state == 'started']
        with open(results, 'a') as out:
            for name in hanging:
                print('failed', name, file=out)
        if not hanging or only:
            return


def run_module(module, directory):
    """The states of the module's tests, after those that fail were tried again."""
    results = pathlib.Path(directory, module)
    results.touch()
    run_apart(module, results)
    for _ in range(TRIES - 1):
        for name, state in read_states(results).items():
            if state == 'failed':
                run_apart(module, results, [name])
    return read_states(results)


def main(failed, modules):
    states = {}
    with tempfile.TemporaryDirectory() as directory:
        with concurrent.futures.ThreadPoolExecutor(MODULES_AT_ONCE) as pool:
            for result in pool.map(lambda module: run_module(module, directory), modules):
                if not result:
                    sys.exit('a module has no tests')
                states.update(result)
    count = collections.Counter(states.values())
    pathlib.Path(failed).write_text(
        ''.join(f'{name}\n' for name, state in states.items() if state == 'failed'))
    print(count['ok'] + count['failed'])


if sys.argv[1] == '--here':
    run_here(sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4:])
else:
    main(sys.argv[1], sys.argv[2:])
