#!/usr/bin/env python3
"""Mutation tests: changes one line of code at a time and requires that a named test fails.

Each entry of list.toml names a line of a file (by a text that stands there exactly once), what to
put in its place, and the test that has to fail then. Usage:

    scripts/mutants/run.py            run every mutant: minutes
    scripts/mutants/run.py NAME ...   run these
    scripts/mutants/run.py --check    only check that every mutant still applies: a moment

The mutants are built in a copy of the tree, in target/mutants.
"""

import collections
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIST = pathlib.Path(__file__).resolve().with_name("list.toml")
WORK = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "mutants"
FIELDS = {"name", "why", "file", "find", "replace", "package", "target", "test"}
PACKAGES = {
    "lockgate": "dataplane",
    "lockgate-cache": "dataplane/cache",
    "lockgate-drivers": "drivers",
    "lockgate-http": "dataplane/http",
    "lockgate-ip": "tcp/ip",
    "lockgate-ktls": "ktls",
    "lockgate-stack": "dataplane/stack",
    "lockgate-tcp": "tcp",
    "lockgate-crypto": "drivers/crypto",
    "lockgate-uring": "drivers/uring",
    "lockgate-wire": "tcp/wire",
    "pktbuf": "drivers/pktbuf",
}
# A mutant may make a test run for ever.
TIMEOUT_SECONDS = 240


def load():
    """The entries, and what is wrong with them."""
    entries = tomllib.loads(LIST.read_text())["mutant"]
    faults = []
    names = set()
    for entry in entries:
        name = entry.get("name", "?")
        if set(entry) != FIELDS:
            faults.append(f"{name}: fields are {sorted(entry)}, not {sorted(FIELDS)}")
            continue
        if name in names:
            faults.append(f"{name}: comes twice")
        names.add(name)
        path = ROOT / entry["file"]
        text = path.read_text() if path.exists() else ""
        if text.count(entry["find"]) != 1:
            count = text.count(entry["find"])
            faults.append(f"{name}: its text stands {count} times in {entry['file']}, not once")
        elif "#[cfg(test)]\nmod tests {" in text.partition(entry["find"])[0]:
            faults.append(f"{name}: changes a test, not the code")
        if entry["find"] == entry["replace"]:
            faults.append(f"{name}: changes nothing")
        if "\n" in entry["find"].strip("\n") or "\n" in entry["replace"]:
            faults.append(f"{name}: is more than a line")
        if not test_exists(entry):
            faults.append(f"{name}: there's no test {entry['test']} in {entry['package']}")
    return entries, faults


def test_exists(entry):
    """Whether there's a function of the test's name where the test must be."""
    if entry["package"] not in PACKAGES:
        return False
    package = ROOT / PACKAGES[entry["package"]]
    tests = package / "tests" / entry["target"]
    places = [package / "src"] if entry["target"] == "lib" else [tests, tests.with_suffix(".rs")]
    function = re.compile(rf"\bfn {re.escape(entry['test'].rpartition('::')[2])}\(")
    files = [p for place in places for p in ([place] if place.is_file() else place.rglob("*.rs"))]
    return any(function.search(path.read_text()) for path in files)


def run_tests(package, target, tests):
    """Runs tests in the copy; returns (passed, output), passed being None if they hang."""
    command = ["cargo", "test", "--quiet", "--locked", "--package", package]
    command += ["--lib"] if target == "lib" else ["--test", target]
    environment = dict(os.environ, CARGO_TARGET_DIR=str(WORK / "target"))
    if target == "sim":
        environment.setdefault("LOCKGATE_SEEDS", "300")
    else:
        # Compiling takes longer than running: what is broken is compiled for speed of that.
        command += ["--config", f'profile.test.package."{package}".opt-level=0']
    command += ["--", "--exact", *sorted(tests)]
    # A group of its own, so that a test that hangs ends with cargo.
    with subprocess.Popen(command, cwd=WORK / "tree", env=environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0]
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode == 0, output


def copy_tree():
    """Makes the copy equal to the tree. What is equal already isn't touched: no need to rebuild."""
    tree = WORK / "tree"
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout.decode()
    wanted = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    for path in [p for p in tree.rglob("*") if p.is_file()]:
        if str(path.relative_to(tree)) not in wanted:
            path.unlink()
    for name in wanted:
        to, content = tree / name, (ROOT / name).read_bytes()
        if not to.is_file() or to.read_bytes() != content:
            to.parent.mkdir(parents=True, exist_ok=True)
            # With the present time, not the original's: else cargo might believe that an object
            # made from a broken file is newer.
            to.write_bytes(content)
            shutil.copymode(ROOT / name, to)


def sound_tests(entries):
    """Those of the tests that pass on unbroken code, by (package, target)."""
    groups = collections.defaultdict(set)
    for entry in entries:
        groups[entry["package"], entry["target"]].add(entry["test"])
    sound = set()
    for (package, target), tests in groups.items():
        passed, output = run_tests(package, target, tests)
        if passed and sum(int(n) for n in re.findall(r"(\d+) passed", output)) == len(tests):
            sound |= {(package, target, test) for test in tests}
            continue
        if "could not compile" in output:
            sys.exit(f"{output[-4000:]}\n{package} doesn't compile, unbroken")
        for test in tests:
            passed, output = run_tests(package, target, [test])
            if passed and re.search(r"\b1 passed", output):
                sound.add((package, target, test))
            else:
                print(output[-4000:], file=sys.stderr)
    return sound


def run_mutant(entry):
    """Breaks the copy, runs the test, mends it; what came of it."""
    path = WORK / "tree" / entry["file"]
    whole = path.read_text()
    path.write_text(whole.replace(entry["find"], entry["replace"]))
    try:
        passed, output = run_tests(entry["package"], entry["target"], [entry["test"]])
    finally:
        path.write_text(whole)
    if passed is None:
        return "noticed (it hung)"
    if passed:
        return "MISSED"
    if "could not compile" in output or "test result: FAILED" not in output:
        print(output[-4000:], file=sys.stderr)
        return "MISSED: it doesn't compile or run"
    return "noticed"


def main():
    wanted = sys.argv[1:]
    entries, faults = load()
    if faults:
        sys.exit("\n".join(faults))
    if wanted == ["--check"]:
        print(f"{len(entries)} mutants apply")
        return
    unknown = set(wanted) - {entry["name"] for entry in entries}
    if unknown:
        sys.exit(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [entry for entry in entries if not wanted or entry["name"] in wanted]
    began = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    copy_tree()
    sound = sound_tests(chosen)
    missed = []
    for entry in chosen:
        if (entry["package"], entry["target"], entry["test"]) in sound:
            start = time.monotonic()
            verdict = f"{run_mutant(entry)}, {time.monotonic() - start:.0f} s"
        else:
            verdict = "MISSED: the test doesn't pass on unbroken code"
        print(f"{entry['name']}: {verdict} ({entry['target']} {entry['test']})", flush=True)
        if not verdict.startswith("noticed"):
            missed.append(entry["name"])
    minutes = (time.monotonic() - began) / 60
    print(f"{len(chosen) - len(missed)} noticed, {len(missed)} missed, {minutes:.1f} minutes")
    if missed:
        sys.exit("not noticed: " + ", ".join(missed))


if __name__ == "__main__":
    main()
