#!/usr/bin/env python3
"""Reads the JUnit report of nextest and prints what scripts/test counts.

    scripts/junit.py REPORT

Standard output: one line `PASSED FAILED SKIPPED`. Standard error: a line for each skipped test, the
output of each failed test, and of passed tests the lines `NOTE <test>: <what>`.

A test that can't run on this machine passes for the runner and prints `SKIPPED <test>: <why>`, or
is reported as ignored by a test harness of its own. Such a test counts as skipped. A test that the
runner retried counts once, by its last result.

Exit code 1: the report is missing, is not JUnit, or contradicts its own totals.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree

SKIPPED = re.compile(r"^SKIPPED \S+: .*$|^test .* \.\.\. ignored.*$", re.MULTILINE)
NOTE = re.compile(r"^NOTE \S+: .*$", re.MULTILINE)
OUTPUT_LINES_MAX = 200


def output(case):
    """Standard output and standard error of a test case."""
    return "\n".join(case.findtext(part) or "" for part in ("system-out", "system-err"))


def count(root, tell):
    '''Passed, failed and skipped tests of a report; `tell` gets the lines about them.

    >>> report = """<testsuites tests="5"><testsuite>
    ... <testcase classname="a" name="good"><system-out>test good ... ok</system-out>
    ... <system-err>NOTE good: started twice
    ... </system-err></testcase>
    ... <testcase classname="a" name="bad"><failure message="exit code 101"/></testcase>
    ... <testcase classname="a" name="broken"><error message="timed out"/></testcase>
    ... <testcase classname="a" name="rootless"><system-err>SKIPPED rootless: needs root
    ... </system-err></testcase>
    ... <testcase classname="a" name="ignored"><system-out>test ignored ... ignored (no ping)
    ... </system-out></testcase></testsuite></testsuites>"""
    >>> lines = []
    >>> count(ElementTree.fromstring(report), lines.append)
    (1, 2, 2)
    >>> [line for line in lines if line.startswith(("FAILED", "SKIPPED"))]
    ['FAILED a bad', 'FAILED a broken', 'SKIPPED rootless: needs root']
    >>> [line for line in lines if line.startswith("NOTE")]
    ['NOTE good: started twice']
    >>> [line for line in lines if line.startswith("test")]
    ['test ignored ... ignored (no ping)']
    >>> count(ElementTree.fromstring(report.replace('"5"', '"6"')), lines.append)
    Traceback (most recent call last):
    ValueError: 6 tests by the head of the report, 5 in its body
    '''
    passed = failed = skipped = 0
    for case in root.iter("testcase"):
        name = f"{case.get('classname')} {case.get('name')}"
        faults = case.findall("failure") + case.findall("error")
        if faults:
            failed += 1
            tell(f"FAILED {name}")
            for fault in faults:
                tell(fault.get("message") or "")
            tell("\n".join(output(case).splitlines()[-OUTPUT_LINES_MAX:]))
        elif case.find("skipped") is not None:
            skipped += 1
            tell(f"SKIPPED {name}")
        elif reason := SKIPPED.search(output(case)):
            skipped += 1
            tell(reason.group())
        else:
            passed += 1
            for note in NOTE.findall(output(case)):
                tell(note)

    total = int(root.get("tests", "-1"))
    if total != passed + failed + skipped:
        body = passed + failed + skipped
        raise ValueError(f"{total} tests by the head of the report, {body} in its body")
    return passed, failed, skipped


def main():
    report = sys.argv[1]
    try:
        root = ElementTree.parse(report).getroot()
        print(*count(root, lambda line: print(line, file=sys.stderr)))
    except (OSError, ElementTree.ParseError, ValueError) as error:
        sys.exit(f"{report}: {error}")


if __name__ == "__main__":
    main()
