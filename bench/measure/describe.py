"""Measures control planes that differ only in how many instances they have. Started by bench/describe."""

import argparse
import contextlib
import json
import os
import signal
import sqlite3
import statistics
import sys
import threading
import time
from pathlib import Path

from place import Dev, NotAFigure, Place, Swarm, children, command_line, memory
from report import Row, machine_settings, print_notes, print_settings, print_table

SIZES = [10, 10_000, 1_000_000]

# Those that keys are pushed to, beside one with a machine of its own.
WITH_AGENT, USERS = 9, [f"user{number:02}" for number in range(16)]

ROUNDS = 3

# Design section 10: with a million instances as with ten.
WITHIN = (1.5, 1.5)

DESCRIBE = "Action=DescribeInstances&Version=2016-11-15"

# Each line: what it is called, what is asked, and how often in a round. {} is another number each time.
QUERIES = [
    ("one instance by its id", DESCRIBE + "&InstanceId.1=INSTANCE", 300, WITHIN),
    ("first part of 10", DESCRIBE + "&MaxResults=10", 300, WITHIN),
    ("first part of as many as there are, or 1,000", DESCRIBE, 30, None),
    ("first part where a filter matches nothing", DESCRIBE + "&Filter.1.Name=tag:Name&Filter.1.Value.1=nothing*", 20, None),
    ("a tag changed, until it is seen", "Action=CreateTags&Version=2016-11-15&ResourceId.1=INSTANCE&Tag.1.Key=n&Tag.1.Value=ROUND-{}", 50, WITHIN),
]


def main():
    parser = argparse.ArgumentParser(prog="bench/describe")
    parser.add_argument("sizes", nargs="*", type=int, metavar="SIZE", help="how many instances; 10, 10000 and 1000000 without")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    parser.add_argument("--programs", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--sshd", type=Path, required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # A signal unwinds like an error, so that everything started here is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench/describe: ended by a signal"))
    with Place(arguments) as place, contextlib.ExitStack() as cleanup:
        settings = machine_settings(place)
        print_settings(settings)
        fleets = [Fleet(place, cleanup, size) for size in sorted(arguments.sizes or SIZES)]
        try:
            for number in range(ROUNDS):
                for fleet in fleets:
                    print(f"measuring {fleet.size:,} instances, round {number + 1} ...", file=sys.stderr, flush=True)
                    fleet.measure(number)
        except NotAFigure as error:
            sys.exit(f"bench/describe: NO FIGURE: {error}")
    least, *others = fleets
    rows = [row for name in least.figures for row in rows_of(name, least, others)]
    print_table(rows)
    print_notes([note for fleet in fleets for note in fleet.notes(least)])
    if arguments.json:
        figures = {"settings": settings, "sizes": {fleet.size: fleet.raw() for fleet in fleets}}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def rows_of(name, least, others):
    goals = least.goals.get(name)
    for fleet in others:
        row = Row(f"{name}: {fleet.size:,}", fleet.median(name), f"{least.size:,}:", least.median(name), goals, at_most=True)
        yield row.format("{:,.2f} ms")


class Fleet:
    """A control plane with so many instances."""

    def __init__(self, place, cleanup, size):
        print(f"making {size:,} instances ...", file=sys.stderr, flush=True)
        self.place, self.size, self.figures, self.goals = place, size, {}, {}
        self.dev = cleanup.enter_context(Dev(place, without_machine=WITH_AGENT, options=["--restart"]))
        database = self.dev.directory / "data" / "inventory.sqlite"
        fill(database, size - WITH_AGENT - 1)
        self.start_seconds = self.restart()
        checkpoint(database)
        self.started_memory = memory(self.dev.control_plane)
        self.swarm = cleanup.enter_context(Swarm(place, self.dev, USERS))
        self.instance = self.swarm.instances.read_text().split()[0]
        self.push("--requests", 2 * WITH_AGENT, "--in-flight", 1)

    def restart(self):
        """Starts the control plane again, and gives the seconds from its start to its first answer."""
        before = self.dev.control_plane
        os.kill(before, signal.SIGKILL)

        def is_there():
            running = [pid for pid in children(self.dev.pid) if pid != before and b"\0serve\0" in command_line(pid)]
            if running:
                [self.dev.control_plane] = running
            return bool(running)

        self.dev.wait_for("the control plane", is_there)
        start = started_at(self.dev.control_plane)

        def answers():
            with contextlib.suppress(NotAFigure):
                return self.query(DESCRIBE + "&MaxResults=5", 1)
            return False

        self.dev.wait_for("the control plane", answers, seconds=120)
        return time.clock_gettime(time.CLOCK_BOOTTIME) - start

    def query(self, form, requests, *options):
        arguments = ["--server", self.dev.server, "--form", form, "--requests", requests, "--in-flight", 1]
        environment = os.environ | self.dev.environment()
        result = self.place.load("query", *arguments, "--seconds", 60, *options, environment=environment)
        if result["errors"] or not result["succeeded"]:
            raise NotAFigure(f"{form}: {result['errors']}")
        return result

    def push(self, *options):
        return self.place.push(self.dev.server, self.dev, self.swarm.instances, USERS, *options, "--seconds", 60)

    def measure(self, number):
        for name, form, requests, goals in QUERIES:
            form = form.replace("INSTANCE", self.instance).replace("ROUND", str(number))
            self.take(name, self.query(form, requests), goals)
        self.take("push", self.push("--requests", 300, "--in-flight", 1), WITHIN)
        with self.changes(number):
            self.take("push, while tags are changed", self.push("--requests", 300, "--in-flight", 1), WITHIN)
        self.ended_memory = memory(self.dev.control_plane)

    @contextlib.contextmanager
    def changes(self, number):
        """Twenty changes a second, for as long as the block takes."""
        form = f"Action=CreateTags&Version=2016-11-15&ResourceId.1={self.instance}&Tag.1.Key=n&Tag.1.Value=beside-{number}-{{}}"
        going, failed = threading.Event(), []
        going.set()

        def change():
            while going.is_set():
                try:
                    self.query(form, 20, "--per-second", 20)
                except NotAFigure as error:
                    failed.append(error)

        thread = threading.Thread(target=change)
        thread.start()
        try:
            time.sleep(0.2)
            yield
        finally:
            going.clear()
            thread.join()
        if failed:
            raise failed[0]

    def take(self, name, result, goals):
        self.goals[name] = goals
        self.figures.setdefault(name, []).append(result["latency"] | {"answer_bytes": result["answer_bytes"]})

    def median(self, name, figure="p50_us"):
        return statistics.median(round[figure] for round in self.figures[name]) / 1000

    def notes(self, least):
        used = self.started_memory - least.started_memory
        more = self.size - least.size
        each = f", {used * 2**20 / more:,.0f} bytes for each more" if more else ""
        yield (
            f"{self.size:,} instances: {self.start_seconds:.2f} s from start to the first answer; "
            f"{self.started_memory:,.0f} MiB resident then{each}, {self.ended_memory:,.0f} MiB after the run"
        )
        spread = ", ".join(f"{name} {self.median(name, 'p99_us'):.2f} ms" for name in self.figures)
        yield f"{self.size:,} instances, 99th percentiles: {spread}"

    def raw(self):
        return {"start_seconds": self.start_seconds, "memory_mib": self.started_memory, "latencies": self.figures}


def fill(database, count):
    """Puts so many instances into a store, each with two tags and what operators say of it. By hand: made one by one through
    the API, a million take an hour."""
    if count <= 0:
        return
    connection = sqlite3.connect(database, timeout=60, isolation_level=None)
    # A trigger for each row would take longer than the rows.
    triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    connection.executescript(
        f"""
        PRAGMA synchronous = OFF;
        PRAGMA cache_size = -2000000;
        BEGIN IMMEDIATE;
        {"".join(f"DROP TRIGGER {name};" for name, _ in triggers)}
        WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
        INSERT INTO instances (id, account, region, availability_zone, state, instance_type, image_id, private_ip, launched_at, changed)
        SELECT printf('i-%08x%09x', n * 2654435761 % 4294967296, n), account, region, availability_zone, 'running', 'm7i.large',
            'ami-0123456789abcdef0', printf('10.%d.%d.%d', n / 65536, n / 256 % 256, n % 256), 1800000000, value + 1
        FROM numbers, sequence, (SELECT account, region, availability_zone FROM instances LIMIT 1);
        INSERT INTO instance_tags (instance, key, value)
        SELECT id, key, iif(key = 'Name', 'web-' || instances.rowid, 'prod')
        FROM instances, (SELECT 'Name' AS key UNION ALL SELECT 'env') WHERE launched_at = 1800000000 ORDER BY id, key;
        {"".join(f"{sql};" for _, sql in triggers)}
        UPDATE sequence SET value = value + 1;
        COMMIT;
        """
    )
    connection.close()


def checkpoint(database):
    """Has what was filled in copied into the database itself: a commit that finds it in the log does that while it is waited for."""
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise NotAFigure("the store is in use")


def started_at(pid):
    """When a process was started, on the clock of the boot."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    # proc(5) counts the two fields before as well.
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
