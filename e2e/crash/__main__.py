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
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from crash.load import LOST, SUCCESS, boot_time
from crash.trial import Trial
from crash.verdict import Verdict
from system import children

POINTS = [
    f"{point}-{side}"
    for point in ("intent", "send", "rename", "acknowledgement", "outcome", "answer")
    for side in ("before", "after")
]


@dataclass
class AtPoints:
    """How to kill at the named points."""

    kills: int
    # Points under trial at a time.
    at_a_time: int
    # How often a program passes its point until it dies, at least and at most.
    passes: tuple
    # Of each `dev`; `rate` is pushes a second.
    connections: int
    rate: float


SHORT = AtPoints(kills=3, at_a_time=len(POINTS), passes=(2, 9), connections=4, rate=4)
LONG = AtPoints(kills=20, at_a_time=4, passes=(10, 30), connections=8, rate=25)

# Seconds for one trial. An idle machine takes some minutes for the longest, with agents that wait for their next link.
PATIENCE = 3600

# Seconds between two kills at random, at most. Agents wait longer and longer for a link that keeps breaking.
LONGEST_PAUSE = 4.5


def arguments():
    parser = argparse.ArgumentParser("./test crash", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--short", action="store_true", help="3 kills at each named point, all points at a time")
    mode.add_argument("--points", action="store_true", help="20 kills at each named point")
    mode.add_argument("--random", type=int, metavar="KILLS", help="so many kills at random moments")
    parser.add_argument("--answers", type=int, default=20_000, help="with --random: at least so many Success (20000)")
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
            how = SHORT if asked.short else LONG
            with ThreadPoolExecutor(how.at_a_time) as pool:
                trials = [pool.submit(at_point, scratch, asked.seed, point, how) for point in POINTS]
            verdicts = dict(zip(POINTS, (trial.result() for trial in trials)))
    report(verdicts, boot_time() - start)
    kills, answers = (how.kills, 0) if asked.random is None else (asked.random, asked.answers)
    passed = True
    for name, verdict in verdicts.items():
        if verdict.kills.total() < kills or verdict.answers[SUCCESS] < answers:
            print(f"TOO FEW {name}")
            passed = False
        passed = passed and not verdict.violations and not verdict.unjudged
    sys.exit(not passed)


def end_at_signals(scratch):
    """Trials wait in threads, which hear no signal. What each `dev` leaves is removed when it is gone."""

    def end(*_):
        shutil.rmtree(scratch, ignore_errors=True)
        for child in children(os.getpid()):
            os.kill(child, signal.SIGKILL)
        os._exit(1)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)


def at_point(scratch, seed, point, how):
    """Programs that kill themselves at one point, again and again."""
    nth = random.Random(f"{seed}/{point}").randint(*how.passes)
    (scratch / point).mkdir()
    kill_at = f"{point}:{nth}"
    with closing(Trial(scratch / point, f"{seed}/{point}", 2, how.connections, how.rate, kill_at)) as trial:
        while len(trial.kills) < how.kills and not trial.is_over(PATIENCE):
            time.sleep(0.05)
        return trial.verdict()


def at_random(scratch, seed, kills, answers):
    choice = random.Random(f"{seed}/kills")
    with closing(Trial(scratch, seed, instances=8, connections=64, rate=50)) as trial:
        while (len(trial.kills) < kills or trial.successes() < answers) and not trial.is_over(PATIENCE):
            time.sleep(choice.uniform(0, LONGEST_PAUSE))
            if kills:
                trial.kill_one_at_random(choice)
        return trial.verdict()


def report(verdicts, seconds):
    total = sum(verdicts.values(), Verdict())
    columns = ["kills", "pushes", "Success", "other answers", "lost", "records without an answer", "violations"]
    print(f"{'':24}" + "".join(f"  {column}" for column in columns))
    for name, verdict in [*verdicts.items(), ("all", total)]:
        answers = verdict.answers
        success, lost = answers[SUCCESS], answers[LOST]
        cells = [
            verdict.kills.total(), answers.total(), success, answers.total() - success - lost, lost,
            verdict.unanswered.total(), len(verdict.violations),
        ]  # fmt: skip
        print(f"{name:24}" + "".join(f"  {cell:>{len(column)}}" for cell, column in zip(cells, columns)))
    print(f"\nin {seconds:.0f} s; kills: {counts(total.kills)}; answers: {counts(total.answers)}")
    print(f"\n(a) Success without a record: {len(total.unrecorded)} of {total.answers[SUCCESS]}")
    print(f"(b) records without an answer and unexplained: {len(total.unexplained)}")
    print(f"    explained by a connection lost at a kill: {total.unanswered.total()}: {counts(total.unanswered)}")
    print(f"    lines of the log that a kill cut off: {total.cut_lines}")
    print(f"(c) keys of a Success not offered until their deadline: {len(total.not_offered)}")
    print(f"    asked about at once and {spread(total.before_end)} s before the deadline in the key's file, which was")
    print(f"    {spread(total.lifetimes)} s after the push was sent; looks too late to judge by: {total.unjudged}")
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
