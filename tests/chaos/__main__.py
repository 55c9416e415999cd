"""`python -m tests.chaos`: seeds, gaps between commits, recovery times; exit code 1 if a promise was broken."""

import argparse
import json
import shlex
import sys
import time
import traceback
from pathlib import Path

from tests.chaos.gaps_run import run_gaps
from tests.chaos.plan import draw
from tests.chaos.recovery import measure
from tests.chaos.report import Report, write_section
from tests.chaos.run import Outcome, run_seed
from tests.chaos.system import servers


def main() -> int:
    """Run what the arguments say, print progress and violations, write the reports."""
    arguments = _arguments()
    begun = time.monotonic()
    report = Report(f"python -m tests.chaos {shlex.join(sys.argv[1:])}".strip(), arguments.sagas, arguments.kills)
    with servers() as shared:
        if arguments.observations:
            # First: times are the one part that other work on the machine would spoil.
            report.times = measure(shared, arguments.observations, _say)
            _write(report, arguments)
        if not arguments.no_gaps:
            report.gaps, report.missed = run_gaps(shared, _say)
            _tell("gaps", report.gaps)
            _write(report, arguments)
        for seed in arguments.seeds:
            plan = draw(seed, arguments.sagas, arguments.kills)
            try:
                report.outcomes.append(run_seed(shared, plan, arguments.concurrency, _say, arguments.logs))
                _tell(f"seed {seed}", report.outcomes[-1])
            except Exception:  # noqa: BLE001 - the suite's own trouble: this seed does not pass, the others go on
                report.errors.append(f"seed {seed} was not finished: {traceback.format_exc()}")
                _say(report.errors[-1])
            _write(report, arguments)
    problems = report.problems()
    _say("\n".join(problems) or f"no violation in {time.monotonic() - begun:.0f} s")
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=_seeds, default=_seeds("1-20"), help="one, or a range: 1-20")
    parser.add_argument("--sagas", type=int, default=200, help="of each seed")
    parser.add_argument("--kills", type=int, default=20, help="of each seed; outages come on top")
    parser.add_argument("--concurrency", type=int, default=3, help="of each of the two step workers")
    parser.add_argument("--observations", type=int, default=60, help="of each kind of recovery; 0: none")
    parser.add_argument("--no-gaps", action="store_true", help="leave out the gaps between commits")
    parser.add_argument("--logs", type=Path, help="keep the logs of seeds with violations there")
    parser.add_argument("--report", type=Path, help="write the page there")
    parser.add_argument("--json", type=Path, help="write all figures there")
    return parser.parse_args()


def _seeds(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def _say(text: str) -> None:
    print(text, flush=True)


def _tell(name: str, outcome: Outcome) -> None:
    _say(f"{name}: {dict(outcome.states)}, {len(outcome.violations)} violations, {outcome.seconds:.0f} s")
    for violation in outcome.violations:
        _say(f"seed {outcome.seed}: {violation}")


def _write(report: Report, arguments: argparse.Namespace) -> None:
    """After each part, so that a run that is stopped has left what it found."""
    if arguments.report:
        write_section(arguments.report, run=report.text())
    if arguments.json:
        arguments.json.write_text(json.dumps(report.data(), indent=1))


if __name__ == "__main__":
    sys.exit(main())
