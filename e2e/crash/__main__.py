"""Kills the control plane and agents with SIGKILL while keys are pushed, and judges every key, answer and record.

Demanded is: (a) no Success without a record of it; (b) no record without an answer, but of a push whose connection was
lost at a kill; (c) every key of a Success offered by the sshd command until its deadline; (d) no key offered after it.
Exit status 1 if there is anything else.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from crash.load import boot_time
from crash.trial import Trial
from crash.verdict import Verdict

POINTS = [
    f"{point}-{side}"
    for point in ("intent", "send", "rename", "acknowledgement", "outcome", "answer")
    for side in ("before", "after")
]

# For one point, the times that agents wait for before they connect again included.
PATIENCE = 600

# Seconds between two kills at random, at most. Agents wait longer and longer for a link that keeps breaking.
LONGEST_PAUSE = 4.5


def arguments():
    parser = argparse.ArgumentParser("./test crash", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--short", action="store_true", help="3 kills at each named point, all points at a time")
    mode.add_argument("--points", action="store_true", help="20 kills at each named point")
    mode.add_argument("--random", type=int, metavar="KILLS", help="so many kills at random moments")
    parser.add_argument("--answers", type=int, default=20_000, help="with --random, go on until so many Successes (20000)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of an earlier run")
    return parser.parse_args()


def main():
    asked = arguments()
    print(f"seed {asked.seed}", flush=True)
    start = boot_time()
    with tempfile.TemporaryDirectory(prefix="ic-crash-") as scratch:
        scratch = Path(scratch)
        end_at_signals(scratch)
        if asked.random is not None:
            verdicts = {"at random": at_random(scratch, asked.seed, asked.random, asked.answers)}
        else:
            kills, at_a_time, rate = (3, len(POINTS), 4) if asked.short else (20, 3, 12)
            with ThreadPoolExecutor(at_a_time) as pool:
                trials = [pool.submit(at_point, scratch, asked.seed, point, kills, rate) for point in POINTS]
            verdicts = dict(zip(POINTS, (trial.result() for trial in trials)))
    report(verdicts, boot_time() - start)
    wanted = asked.random if asked.random is not None else kills
    too_few = [name for name, verdict in verdicts.items() if verdict.kills < wanted]
    if too_few:
        print(f"TOO FEW KILLS: {', '.join(too_few)}")
    sys.exit(bool(too_few or any(verdict.violations for verdict in verdicts.values())))


def end_at_signals(scratch):
    """Trials wait in threads, which hear no signal."""

    def end(*_):
        for trial in Trial.running:
            trial.kill()
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)


def at_point(scratch, seed, point, kills, rate):
    """Programs that kill themselves at one point, again and again."""
    nth = random.Random(f"{seed}/{point}").randint(2, 9)
    (scratch / point).mkdir()
    with Trial(point, scratch / point, seed, 2, 4, rate, kill_at=f"{point}:{nth}") as trial:
        trial.watch_for_kills(kills, PATIENCE)
        return trial.verdict()


def at_random(scratch, seed, kills, answers):
    choice = random.Random(f"{seed}/kills")
    with Trial("at random", scratch, seed, 8, 64, 100) as trial:
        while len(trial.kills) < kills or trial.successes() < answers:
            trial.load.stopped.wait(choice.uniform(0, LONGEST_PAUSE))
            if kills:
                trial.kill_one_at_random(choice)
        return trial.verdict()


def report(verdicts, seconds):
    total = sum(verdicts.values(), Verdict())
    columns = ["kills", "pushes", "Success", "other answers", "lost", "records without an answer", "violations"]
    print(f"{'':24}" + "".join(f"  {column}" for column in columns))
    for name, verdict in [*verdicts.items(), ("all", total)]:
        answers = verdict.answers
        success, lost = answers["Success"], answers["connection lost"]
        cells = [
            verdict.kills, answers.total(), success, answers.total() - success - lost, lost,
            verdict.unanswered.total(), len(verdict.violations),
        ]  # fmt: skip
        print(f"{name:24}" + "".join(f"  {cell:>{len(column)}}" for cell, column in zip(cells, columns)))
    print(f"\nin {seconds:.0f} s; answers: {counts(total.answers)}")
    print(f"\n(a) Success without a record: {len(total.unrecorded)} of {total.answers['Success']}")
    print(f"(b) records without an answer and unexplained: {len(total.unexplained)}")
    print(f"    explained by a connection lost at a kill: {total.unanswered.total()}: {counts(total.unanswered)}")
    print(f"    lines of the log that a kill cut off: {total.cut_lines}")
    print(f"(c) keys of a Success not offered until their deadline: {len(total.not_offered)}")
    print(f"    asked about at once and {spread(total.before_end)} s before the deadline in the key's file, which was")
    print(f"    {spread(total.lifetimes)} s after the push was sent; looks too late to judge by: {len(total.unjudged)}")
    print(f"(d) keys offered after their deadline: {len(total.offered_late)} of {total.answers.total()}")
    print(f"    asked about {spread(total.after_end)} s after it, whatever the answer was")
    for violation in total.violations[:20]:
        print(f"VIOLATION {violation}")


def counts(counter):
    return ", ".join(f"{count} x {name}" for name, count in counter.most_common()) or "none"


def spread(numbers):
    return f"{min(numbers):.3f} to {max(numbers):.3f}" if numbers else "-"


if __name__ == "__main__":
    main()
