"""`make coverage`, its second half: put together what all processes wrote, print the table and what is left out of it.

`python -m tests.harness.coverage_report`: exit code 2 below the bound of pyproject.toml (`fail_under`, per cent).
"""

import json
import sys
import tempfile
from pathlib import Path

import coverage


def main() -> int:
    """Combine, report, list the exclusions; coverage.py's own exit codes."""
    measured = coverage.Coverage()
    measured.combine()
    measured.save()
    total = measured.report()
    print(*exclusions(measured), sep="\n")
    bound = measured.get_option("report:fail_under")
    assert isinstance(bound, float), bound
    if total < bound:
        print(f"coverage: {total:.1f} % of the lines, {bound:g} % are asked for", file=sys.stderr)
        return 2
    return 0


def exclusions(measured: coverage.Coverage) -> list[str]:
    """What counts neither as run nor as missing: the patterns, and each place where one of them applies."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report.json"
        measured.json_report(outfile=str(path))
        files = json.loads(path.read_text())["files"]
    lines = ["", "Excluded from the count, by pattern:"]
    lines += [f"  {pattern}" for pattern in measured.get_exclude_list("exclude")]
    left_out = {file: one["excluded_lines"] for file, one in files.items() if one["excluded_lines"]}
    lines.append(f"which leaves out {sum(map(len, left_out.values()))} lines:")
    lines += [f"  {file}: {', '.join(map(str, numbers))}" for file, numbers in sorted(left_out.items())]
    # Of a directory that is no package coverage.py knows only what was run.
    rooms = measured.get_option("run:source_dirs")
    assert isinstance(rooms, list), rooms
    unseen = sorted({str(path) for room in rooms for path in Path(room).rglob("*.py")} - files.keys())
    return [
        *lines,
        f"and {len(unseen)} files that nothing has run{':' if unseen else '.'}",
        *(f"  {one}" for one in unseen),
    ]


if __name__ == "__main__":
    sys.exit(main())
