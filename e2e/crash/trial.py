"""One `dev` under load whose programs are killed, and what became of every push."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from crash.load import SUCCESS, Load, boot_time
from crash.verdict import judge
from dev import Dev
from system import command_lines, descendants

# Processes that ask for keys. The machine has more than one processor, and the moments to ask at do not wait.
JUDGES = 2

# OS users, so that there is room: 64 keys of one of them may live on an instance.
USERS = [f"user{number:02}" for number in range(16)]

ENDED = re.compile(r"(?:the control plane|the agent of (i-\w+)) ended \(signal: 9 ")


@dataclass
class Kill:
    # When `dev` had noticed it: boot time.
    at: float
    # The instance whose agent it was, or `None`: it was the control plane.
    agent: str


class Judges:
    """Some processes of `crash.judge`."""

    def __init__(self, folders):
        words = [sys.executable, "-m", "crash.judge", *map(str, folders)]
        pipe = subprocess.PIPE
        self.processes = [subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) for _ in range(JUDGES)]

    def judge(self, number, push):
        judge = self.processes[number % JUDGES].stdin
        print(json.dumps({"number": number, **asdict(push)}), file=judge, flush=True)

    def seen(self):
        """Ends them: what they saw, once every key's life has ended."""
        for judge in self.processes:
            judge.stdin.close()
        return [seen for judge in self.processes for seen in json.load(judge.stdout)]

    def close(self):
        for judge in self.processes:
            judge.kill()
            judge.wait()


class Trial:
    """A `dev` under load. `kill_at` is what its programs find in INSTANCE_CONNECT_KILL_AT."""

    def __init__(self, scratch, seed, instances, connections, rate, kill_at=None):
        self.kills, self.pushes, self.started_at = [], [], boot_time()
        self.lock, self.over = threading.Lock(), threading.Event()
        # Root must not open itself, and everyone has this account.
        os_user = "nobody" if os.geteuid() == 0 else None
        environment = {"INSTANCE_CONNECT_KILL_AT": kill_at} if kill_at else None
        arguments = ["--restart", "--instances", instances]
        with ExitStack() as cleanup:
            self.dev = Dev(scratch, os_user, environment=environment, arguments=arguments)
            cleanup.callback(self.dev.close)
            self.judges = Judges([instance.folder for instance in self.dev.instances])
            cleanup.callback(self.judges.close)
            self.load = Load(self.dev, seed, connections, rate, USERS, self._ended)
            self.load.start()
            cleanup.callback(self.load.stop)
            threading.Thread(target=self._watch).start()
            cleanup.callback(self.over.set)
            self.close = cleanup.pop_all().close

    def _ended(self, push):
        with self.lock:
            self.judges.judge(len(self.pushes), push)
            self.pushes.append(push)

    def is_over(self, patience):
        """Whether it cannot go on, or has taken too long."""
        return self.dev.process.poll() is not None or boot_time() > self.started_at + patience

    def successes(self):
        return sum(push.answer == SUCCESS for push in self.pushes)

    def _watch(self):
        """Reads what `dev` says of programs that ended, until all is over."""
        with open(self.dev.output) as output:
            partial = ""
            while not self.over.wait(0.05):
                *lines, partial = (partial + output.read()).split("\n")
                self.kills += [Kill(boot_time(), found[1]) for found in map(ENDED.search, lines) if found]

    def kill_one_at_random(self, choice):
        """Kills the control plane or an agent, whichever the dice say, if it runs just now."""
        agent = choice.choice([None, choice.choice(self.dev.instances).id])
        word = f"{self.dev.folder}/instances/{agent}/run" if agent else "serve"
        below = set(descendants(self.dev.process.pid))
        for pid, words in command_lines():
            if pid in below and word in words:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def verdict(self):
        """Judges all of it when the last key's life has ended."""
        self.load.stop()
        seen = self.judges.seen()
        return judge(self.pushes, self.kills, seen, self.dev.audit_lines())
