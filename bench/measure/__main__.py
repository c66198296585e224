"""Runs the benchmarks named and prints what they measured. Started by bench/run."""

import argparse
import json
import signal
import sys
from pathlib import Path

import benchmarks
import report
from place import NotAFigure, Place

ALL = {
    "push": benchmarks.push,
    "cpu": benchmarks.cpu,
    "latency": benchmarks.latency,
    "sshd-command": benchmarks.sshd_command,
    "send-key": benchmarks.send_key,
    "ssh": benchmarks.ssh,
    "sizes": benchmarks.sizes,
}


def main():
    parser = argparse.ArgumentParser(prog="bench/run")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ALL))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures here")
    for program in ["programs", "sshd", "aws", "moto"]:
        parser.add_argument(f"--{program}", type=Path, required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(ALL)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")

    # A signal unwinds like an error, so that everything started here is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench/run: ended by a signal"))
    with Place(arguments) as place:
        settings = report.settings(place)
        report.print_settings(settings)
        results = []
        for name in arguments.names or ALL:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            try:
                results.append(ALL[name](place))
            except NotAFigure as error:
                results.append(report.Result(name, notes=[f"{name}: NO FIGURE: {error}"], failed=True))
    report.print_table([row for result in results for row in result.rows])
    report.print_notes([note for result in results for note in result.notes])
    if arguments.json:
        figures = {"settings": settings, "results": [result.figures() for result in results]}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(any(result.failed for result in results))


if __name__ == "__main__":
    main()
