#!/usr/bin/env python3
"""Reads the JUnit report of nextest and prints what scripts/test counts.

    scripts/junit.py REPORT

Standard output: one line `PASSED FAILED SKIPPED`. Standard error: a line for each skipped test and
the output of each failed test.

A test that can't run on this machine passes for the runner and prints `SKIPPED <test>: <why>`, or
is reported as ignored by a test harness of its own. Such a test counts as skipped. A test that the
runner retried counts once, by its last result.

Exit code 1: the report is missing, is not JUnit, or contradicts its own totals.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree

SKIPPED = re.compile(r"^SKIPPED \S+: .*$|^test .* \.\.\. ignored.*$", re.MULTILINE)
OUTPUT_LINES_MAX = 200


def output(case):
    """Standard output and standard error of a test case."""
    return "\n".join(case.findtext(part) or "" for part in ("system-out", "system-err"))


def main():
    report = sys.argv[1]
    try:
        root = ElementTree.parse(report).getroot()
    except (OSError, ElementTree.ParseError) as error:
        sys.exit(f"{report}: not readable as a JUnit report: {error}")

    passed = failed = skipped = 0
    for case in root.iter("testcase"):
        name = f"{case.get('classname')} {case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
            print(f"FAILED {name}", file=sys.stderr)
            for part in (case.find("failure"), case.find("error")):
                if part is not None:
                    print(part.get("message") or "", file=sys.stderr)
            lines = output(case).splitlines()
            print("\n".join(lines[-OUTPUT_LINES_MAX:]), file=sys.stderr)
        elif case.find("skipped") is not None:
            skipped += 1
            print(f"SKIPPED {name}", file=sys.stderr)
        elif reason := SKIPPED.search(output(case)):
            skipped += 1
            print(reason.group(), file=sys.stderr)
        else:
            passed += 1

    total = int(root.get("tests", "-1"))
    if total != passed + failed + skipped:
        sys.exit(f"{report}: {total} tests by its head, {passed + failed + skipped} in its body")
    print(passed, failed, skipped)


if __name__ == "__main__":
    main()
