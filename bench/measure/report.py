"""What was measured, for people and for programs."""

import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from place import ROOT


@dataclass
class Row:
    """One line of the table. `goals` are the first and the next one of design section 10, on the ratio where there is
    something to compare with and on our own figure where there is not."""

    what: str
    ours: float
    theirs_is: str | None
    theirs: float | None
    goals: tuple | None
    at_most: bool = False
    # Ours over theirs, or, where less is better and a factor is wanted, theirs over ours.
    faster: bool = False
    unit: str = "{}"

    def format(self, unit):
        self.unit = unit
        return self

    @property
    def ratio(self):
        if self.theirs is None:
            return None
        return self.theirs / self.ours if self.faster else self.ours / self.theirs

    def cells(self):
        theirs = f"{self.theirs_is} {self.unit.format(self.theirs)}" if self.theirs_is else ""
        ratio = "" if self.ratio is None else factor(self.ratio)
        first = then = reached = ""
        if self.goals:
            measured = self.ours if self.ratio is None else self.ratio
            show = self.unit.format if self.ratio is None else factor
            sign = "<=" if self.at_most else ">="
            first, then = (f"{sign} {show(goal)}" for goal in self.goals)
            met = [measured <= goal if self.at_most else measured >= goal for goal in self.goals]
            reached = "then" if met[1] else "first" if met[0] else "no"
        return [self.what, self.unit.format(self.ours), theirs, ratio, first, then, reached]


@dataclass
class Result:
    name: str
    rows: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    raw: dict = field(default_factory=dict)
    failed: bool = False

    def figures(self):
        rows = [
            {"what": row.what, "ours": row.ours, "theirs_is": row.theirs_is, "theirs": row.theirs, "ratio": row.ratio}
            for row in self.rows
        ]
        return {"name": self.name, "rows": rows, "notes": self.notes, "settings": self.settings, "raw": self.raw}


def factor(value):
    return f"{value:.3f}x" if value < 1 else f"{value:.2f}x" if value < 10 else f"{value:.0f}x"


def machine_settings(place):
    from benchmarks import sync_probe

    sync = sync_probe(place)
    model = next((line.split(":")[1].strip() for line in read("/proc/cpuinfo") if line.startswith("model name")), "?")
    return {
        "CPUs": f"{os.cpu_count()} ({model})",
        "kernel": platform.release(),
        "load average before": "%.1f %.1f %.1f" % os.getloadavg(),
        "audit log": f"{filesystem(place.disk)}, fsync on; one sync takes p50 {sync['p50_us']:.0f} us, p99 {sync['p99_us']:.0f} us",
        "agents' files": filesystem(place.memory),
        "commit": first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
    }


def settings(place):
    from benchmarks import IN_FLIGHT, INSTANCES, USERS

    return machine_settings(place) | {
        "push": f"{INSTANCES} instances, {len(USERS)} OS users, {IN_FLIGHT} in flight, keep-alive, plain http, one client thread",
        "versions": ", ".join(
            [
                first_line(place.program("instance-connectd"), "--version"),
                first_line("nginx", "-v"),
                "moto " + first_line(str(place.moto.parent / "python"), "-c", "import moto; print(moto.__version__)"),
                first_line(str(place.aws), "--version").split()[0],
            ]
        ),
    }


def print_settings(settings):
    width = max(map(len, settings))
    for name, value in settings.items():
        print(f"{name:<{width}}  {value}")
    print(flush=True)


def print_table(rows):
    print_cells([["what", "ours", "theirs", "ratio", "first", "then", "reached"], *(row.cells() for row in rows)])


def print_cells(cells):
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for number, line in enumerate(cells):
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def print_notes(notes):
    print()
    for note in notes:
        print(f"- {note}")


def first_line(*words):
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except OSError:
        return "?"
    return (done.stdout or done.stderr).strip().split("\n")[0]


def read(path):
    return Path(path).read_text().splitlines()


def filesystem(path):
    return first_line("findmnt", "-n", "-o", "FSTYPE", "-T", str(path))
