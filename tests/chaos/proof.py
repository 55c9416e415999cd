"""`make chaos-proof`: each planted defect must be caught by its drill, and each drill passes without one."""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.defects import DEFECTS, Defect
from tests.chaos.drills import DRILLS, perform, rules
from tests.chaos.oracle import Violation
from tests.chaos.plan import ABREAST
from tests.chaos.report import write_section
from tests.chaos.system import Servers, System, running, servers


@dataclass(frozen=True)
class Proof:
    """What one drill saw, with a defect or without."""

    drill: str
    defect: Defect | None
    caught_by: list[str]
    seconds: float

    @property
    def good(self) -> bool:
        return bool(self.caught_by) == (self.defect is not None)


def prove(shared: Servers, drill: str, defect: Defect | None) -> tuple[Proof, list[Violation]]:
    """Perform the drill on a fresh system that has the defect."""
    begun = time.monotonic()

    def plant(system: System) -> None:
        for statement in defect.statements() if defect else []:
            system.query(statement)

    patch = {"CHAOS_PATCH": "tests.chaos.planted", "CHAOS_DEFECT": defect.name} if defect and defect.patched else {}
    with running(shared, env={"HODEI_CONTINUATION_MS": ABREAST, **patch}, prepare=plant) as system:
        found = perform(drill, system)
    return Proof(drill, defect, list(rules(found)), time.monotonic() - begun), found


def main() -> int:
    """The table of the proof; 1 if a defect was missed or a drill fails without one."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.proof", description=__doc__)
    parser.add_argument("--only", default="", help="drills and defects whose name has this text")
    parser.add_argument("--report", type=Path, help="write the table into that page")
    arguments = parser.parse_args()
    only = arguments.only
    proofs = []
    with servers() as shared:
        for name in [name for name in DRILLS if only in name]:
            proofs.append(_say(*prove(shared, name, None)))
        for defect in [defect for defect in DEFECTS if only in defect.name]:
            proofs.append(_say(*prove(shared, defect.drill, defect)))
    if arguments.report:
        write_section(arguments.report, proof=table(proofs))
    bad = [proof for proof in proofs if not proof.good]
    print(f"{len(proofs) - len(bad)} of {len(proofs)} as they should be")
    return 1 if bad else 0


def table(proofs: list[Proof]) -> str:
    """Defect, promise, and what caught it."""
    lines = ["| promise | defect | what was changed | drill | caught by |", "|---|---|---|---|---|"]
    for proof in proofs:
        if proof.defect:
            caught = ", ".join(proof.caught_by) or "**nothing**"
            lines.append(
                f"| {proof.defect.promise} | {proof.defect.name} | {proof.defect.what} | {proof.drill} | {caught} |"
            )
    passed = [proof.drill for proof in proofs if proof.defect is None and proof.good]
    return "\n".join(lines) + f"\n\nWithout a defect these drills pass: {', '.join(passed)}.\n"


def _say(proof: Proof, found: list[Violation]) -> Proof:
    what = f"{proof.defect.promise} {proof.defect.name}" if proof.defect else "no defect"
    verdict = ("caught by " if proof.defect else "FALSE ALARM of ") + ", ".join(proof.caught_by)
    if not proof.caught_by:
        verdict = "MISSED" if proof.defect else "passes"
    print(f"{what:48} {proof.drill:20} {verdict} ({proof.seconds:.0f} s)", flush=True)
    if not proof.good:
        for violation in found[:3]:
            print(violation, flush=True)
    return proof


if __name__ == "__main__":
    sys.exit(main())
