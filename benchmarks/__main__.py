"""`python -m benchmarks`: run, print tables, write the figures to build/bench."""

import argparse
import json
import math
import shlex
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from benchmarks import servers
from benchmarks.contenders import CONTENDERS, DEFAULT
from benchmarks.contenders.base import Wrong
from benchmarks.report import show
from benchmarks.session import ON_DEMAND, PARTS, Plan, Session
from benchmarks.stand import Options
from sagas.errors import HodeiError

BUILD = Path("build/bench")
HELP = f"{', '.join(PARTS)} (all of these if none is named), {', '.join(ON_DEMAND)}"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """The exit code: 0, 1 if a run was wrong, 130 if it was interrupted."""
    arguments = _arguments()
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    console = Console(stderr=True, highlight=False)
    if arguments.write and find_spec("matplotlib") is None:
        console.print("benchmarks: --write draws with matplotlib: pip install -e '.[bench]'", markup=False)
        return 1
    try:
        figures = json.loads(arguments.show.read_text()) if arguments.show else _run(arguments, console)
    except KeyboardInterrupt:
        console.print("interrupted; all that was started is stopped")
        return 130
    except (Wrong, HodeiError, OSError, RuntimeError, AssertionError) as error:
        console.print(f"benchmarks: {error}", markup=False, soft_wrap=True)
        return 1
    if arguments.write:
        from benchmarks import page  # needs the extra

        console.print(f"written: {page.write(figures)}", markup=False)
    show(figures, Console(width=None if sys.stdout.isatty() else 160))
    return 0


def _run(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    file: Path = arguments.json
    plan = Plan(
        parts=arguments.parts or PARTS,
        contenders=arguments.only,
        rounds=arguments.rounds,
        sagas=arguments.sagas,
        latencies=arguments.latencies,
        pause=arguments.pause,
        steps=arguments.steps,
        history=arguments.history,
        backlogs=arguments.backlogs,
        growth_steps=arguments.growth_steps,
        observations=arguments.observations,
    )
    options = Options(arguments.concurrency, arguments.prefetch, arguments.events, arguments.cache)
    with servers.running(arguments.directory) as started:
        session = Session(started, options, plan, lambda text: console.print(text, markup=False, soft_wrap=True))
        session.figures["command"] = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
        console.print(json.dumps(session.figures["machine"]), markup=False, soft_wrap=True)
        try:
            session.run()
        finally:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(session.figures, indent=1) + "\n")
    console.print(f"figures in {file}", markup=False)
    return session.figures


def _interrupt(*_: object) -> NoReturn:
    for number in SIGNALS:  # a second one must not interrupt the cleaning up
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, *ON_DEMAND, []], help=HELP)
    parser.add_argument("--only", type=_names, default=DEFAULT, help=f"of {','.join(CONTENDERS)}")
    parser.add_argument("--rounds", type=_positive, default=5, help="alternating runs of each (5)")
    parser.add_argument("--sagas", type=_positive, default=1000, help="of a run for throughput (1000)")
    parser.add_argument("--latencies", type=_positive, default=100, help="sagas of a run for latency (100)")
    parser.add_argument("--pause", type=_seconds, default=Plan.pause, help="seconds between two of them (0.1)")
    parser.add_argument("--steps", type=_sizes, default=(4, 64, 256, 1000), help="sizes for growth (4,64,256,1000)")
    parser.add_argument("--growth-steps", type=_positive, default=4000, help="in all, at each size (4000)")
    parser.add_argument("--history", type=_positive, default=Plan.history, help="finished sagas stored (1000000)")
    parser.add_argument(
        "--backlogs", type=_sizes, default=Plan.backlogs, help="that wait, for upkeep (1000,10000,100000)"
    )
    parser.add_argument("--observations", type=_positive, default=60, help="of each kind of recovery (60)")
    parser.add_argument("--concurrency", type=_positive, default=2, help="of the worker (2)")
    parser.add_argument("--prefetch", type=_positive, default=1, help="multiplier of the worker (1)")
    parser.add_argument("--events", action="store_true", help="with Flower's events on, on all sides")
    parser.add_argument("--cache", type=Path, default=Options.cache, help="for the environments of other libraries")
    parser.add_argument("--directory", type=Path, default=BUILD, help="for PostgreSQL's data while it runs")
    parser.add_argument("--json", type=Path, default=BUILD / "figures.json", help="where the figures go")
    parser.add_argument("--show", type=Path, help="run nothing, show the figures of this file")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md, .json and plots, too")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := sorted(set(names) - set(CONTENDERS)):
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(CONTENDERS)}")
    return names


def _sizes(text: str) -> list[int]:
    return [_positive(word) for word in text.split(",")]


def _positive(text: str) -> int:
    if not text.strip().isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        if math.isfinite(seconds := float(text)) and seconds >= 0:
            return seconds
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")


if __name__ == "__main__":
    sys.exit(main())
