#!/usr/bin/env python3
"""Breaks the code on purpose, one line at a time, and demands that a named test notices.

Each entry of list.toml names a file, the text to find in it (which must stand there exactly once),
what to put in its place, and the test that has to fail then. Usage:

    scripts/mutants/run.py            run every break
    scripts/mutants/run.py NAME ...   run these
    scripts/mutants/run.py --check    only look whether every break still applies and is well-formed
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIST = pathlib.Path(__file__).resolve().with_name("list.toml")
FIELDS = {"name", "why", "file", "find", "replace", "package", "target", "test"}
TIMEOUT_SECONDS = 600


def load():
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
        count = path.read_text().count(entry["find"]) if path.exists() else 0
        if count != 1:
            faults.append(f"{name}: its text stands {count} times in {entry['file']}, not once")
        if entry["find"] == entry["replace"]:
            faults.append(f"{name}: changes nothing")
    return entries, faults


def run_test(tree, target_dir, entry):
    """Runs the entry's test in the tree; returns (passed, output)."""
    kind = ["--lib"] if entry["target"] == "lib" else ["--test", entry["target"]]
    command = ["cargo", "test", "--quiet", "--package", entry["package"], *kind, "--",
               "--exact", entry["test"]]
    # Half as many seeds still find a break; a break that hangs a simulator is cut off.
    environment = dict(os.environ, CARGO_TARGET_DIR=str(target_dir))
    environment.setdefault("LOCKGATE_SEEDS", "500")
    try:
        done = subprocess.run(command, cwd=tree, env=environment, timeout=TIMEOUT_SECONDS,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    except subprocess.TimeoutExpired as slow:
        return None, str(slow.stdout or "")
    return done.returncode == 0, done.stdout


def ran_one(output):
    return any(int(n) for n in re.findall(r"(\d+) passed", output))


def copy_tree(to):
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True,
                           stdout=subprocess.PIPE).stdout.decode().split("\0")
    for name in filter(None, files):
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def main():
    wanted = sys.argv[1:]
    entries, faults = load()
    if faults:
        sys.exit("\n".join(faults))
    if wanted == ["--check"]:
        print(f"{len(entries)} breaks apply")
        return
    unknown = set(wanted) - {entry["name"] for entry in entries}
    if unknown:
        sys.exit(f"no such break: {', '.join(sorted(unknown))}")
    chosen = [entry for entry in entries if not wanted or entry["name"] in wanted]

    missed = []
    target_dir = ROOT / "target" / "mutants"
    with tempfile.TemporaryDirectory(prefix="lockgate-mutants-") as directory:
        tree = pathlib.Path(directory)
        copy_tree(tree)
        good = {}
        for entry in chosen:
            name = entry["name"]
            key = (entry["package"], entry["target"], entry["test"])
            if key not in good:
                passed, output = run_test(tree, target_dir, entry)
                good[key] = passed and ran_one(output)
            if not good[key]:
                print(f"{name}: {entry['test']} doesn't pass on unbroken code", flush=True)
                missed.append(name)
                continue
            path = tree / entry["file"]
            sound = path.read_text()
            path.write_text(sound.replace(entry["find"], entry["replace"]))
            passed, output = run_test(tree, target_dir, entry)
            path.write_text(sound)
            if passed is None:
                verdict = "noticed (hung)"
            elif passed:
                verdict = "MISSED"
            elif "could not compile" in output:
                verdict = "MISSED: does not compile"
            else:
                verdict = "noticed"
            print(f"{name}: {verdict} by {entry['test']}", flush=True)
            if not verdict.startswith("noticed"):
                missed.append(name)
    print(f"{len(chosen) - len(missed)} passed, {len(missed)} failed")
    if missed:
        sys.exit("not noticed: " + ", ".join(missed))


if __name__ == "__main__":
    main()
