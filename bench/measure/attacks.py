"""Runs the attacks named, and prints what a good client beside notices of each. Started by bench/attack."""

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from place import Attack, Dev, NotAFigure, Place, Swarm, descriptors, memory, processor_seconds
from report import factor, machine_settings, print_cells, print_settings

INSTANCES, USERS = 64, [f"user{number:02}" for number in range(16)]

# The good client: so many pushes a second over so many connections, for so many seconds.
PER_SECOND, CONNECTIONS, SECONDS = 50, 4, 10

# Far above what it asks for, so that only sources that fail authentication are throttled.
THROTTLE = ["--throttle", "--throttle-principal", "100000/100000", "--throttle-instance", "100000/100000"]


@dataclass
class Kind:
    """An attack: what the load program calls it, how many connections it opens, and from how many addresses."""

    name: str
    connections: int
    sources: int
    what: str


ATTACKS = {
    "idle": Kind("idle", 1000, 1, "connections of one address that say nothing"),
    "idle-10000": Kind("idle", 10_000, 40, "the same from forty addresses"),
    "slow-heads": Kind("slow-heads", 10_000, 40, "a line of a head each second"),
    "slow-bodies": Kind("slow-bodies", 10_000, 40, "a byte of a body each second"),
    "pipelining": Kind("pipelining", 64, 8, "requests without waiting for answers"),
    "never-reading": Kind("never-reading", 1000, 40, "the same, and no answer is read"),
    "header-bombs": Kind("header-bombs", 64, 8, "heads that are too large, one after the other"),
    "bogus-signatures": Kind("bogus-signatures", 64, 8, "wrong signatures, one after the other"),
}


def main():
    names = "\n".join(f"  {name:<17} {kind.connections:>6} connections: {kind.what}" for name, kind in ATTACKS.items())
    parser = argparse.ArgumentParser(
        prog="bench/attack", epilog=f"attacks:\n{names}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="the attacks to run; all of them without")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    parser.add_argument("--programs", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--sshd", type=Path, required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(ATTACKS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")

    # A signal unwinds like an error, so that everything started here is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench/attack: ended by a signal"))
    with Place(arguments) as place:
        settings = machine_settings(place) | {
            "good client": f"{PER_SECOND} pushes a second over {CONNECTIONS} connections, for {SECONDS} s; real agents in one process",
            "file descriptors": f"{os.sysconf('SC_OPEN_MAX')} for each process",
        }
        print_settings(settings)
        results = []
        for name in arguments.names or ATTACKS:
            print(f"attacking: {name} ...", file=sys.stderr, flush=True)
            results.append(measure(place, name, ATTACKS[name]))
    header = ["attack", "p50 alone", "attacked", "ratio", "p99 alone", "attacked", "ratio", "RSS MiB", "descriptors"]
    print_cells([header, *(result.cells() for result in results)])
    print()
    for result in results:
        print(f"- {result.note()}")
    if arguments.json:
        figures = {"settings": settings, "results": [asdict(result) for result in results]}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(any(result.attacked["errors"] for result in results))


@dataclass
class Result:
    name: str
    kind: Kind
    alone: dict
    attacked: dict
    # Of the control plane, before the attack and at the most under it.
    memory: tuple
    descriptors: tuple
    done: dict
    server_processor: float

    def cells(self):
        cells = [self.name]
        for percentile in ["p50_us", "p99_us"]:
            alone, attacked = (run["latency"][percentile] for run in [self.alone, self.attacked])
            cells += [f"{alone / 1000:.2f} ms", f"{attacked / 1000:.2f} ms", factor(attacked / alone)]
        return [*cells, "{:.0f} -> {:.0f}".format(*self.memory), "{} -> {}".format(*self.descriptors)]

    def note(self):
        seconds = self.done["seconds"]
        failures = ", ".join(f"{count} x {error}" for error, count in self.attacked["errors"].items())
        return (
            f"{self.name}: {self.kind.what}; {self.kind.connections} from {self.kind.sources}; "
            f"{self.done['open']} open at the end, {self.done['opened'] / seconds:,.0f} opened a second; sent "
            f"{self.done['bytes_sent'] / seconds / 2**20:.1f} MiB/s, received {self.done['bytes_received'] / seconds / 2**20:.1f} MiB/s; "
            f"one CPU busy: attackers {self.done['processor_seconds'] / seconds:.0%}, control plane {self.server_processor / seconds:.0%}; "
            f"good client: {self.attacked['succeeded']} pushes over {self.attacked['connections']} connections, "
            + (f"FAILED: {failures}" if failures else "none failed")
        )


def measure(place, name, kind):
    """A control plane of its own for each attack, so that none inherits memory of another."""
    with Dev(place, without_machine=INSTANCES, options=THROTTLE) as dev, Swarm(place, dev, USERS) as swarm:
        # To each instance once, which also waits for its link.
        place.push(dev.server, dev, swarm.instances, USERS, "--requests", INSTANCES, "--in-flight", 16, "--seconds", 20)
        alone = good_client(place, dev, swarm)
        before = memory(dev.control_plane), descriptors(dev.control_plane)
        with Attack(place, dev, kind.name, kind.connections, kind.sources) as attack:
            processor = processor_seconds([dev.control_plane])
            with Most(dev.control_plane) as most:
                attacked = good_client(place, dev, swarm)
            done = attack.stop()
            processor = processor_seconds([dev.control_plane]) - processor
    (memory_before, descriptors_before), (memory_most, descriptors_most) = before, most.seen
    return Result(
        name, kind, alone, attacked, (memory_before, memory_most), (descriptors_before, descriptors_most), done, processor
    )


def good_client(place, dev, swarm):
    arguments = ["--requests", PER_SECOND * SECONDS, "--per-second", PER_SECOND, "--in-flight", CONNECTIONS]
    result = place.load(
        "push", "--server", dev.server, "--instances", swarm.instances, "--users", ",".join(USERS),
        *arguments, "--seconds", SECONDS + 10, environment=os.environ | dev.environment(),
    )
    if not result["succeeded"]:
        raise NotAFigure(f"no push succeeded: {result['errors']}")
    return result


class Most:
    """The most memory and descriptors of a process that were seen in the block."""

    def __init__(self, pid):
        self.pid, self.seen, self.over = pid, (0, 0), threading.Event()
        self.watch = threading.Thread(target=self.look)

    def look(self):
        while not self.over.wait(0.1):
            with contextlib.suppress(OSError):
                now = memory(self.pid), descriptors(self.pid)
                self.seen = tuple(map(max, self.seen, now))

    def __enter__(self):
        self.watch.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.watch.join()


if __name__ == "__main__":
    main()
