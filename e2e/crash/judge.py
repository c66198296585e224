"""Asks the sshd command about every key, at the moments that matter: a process of its own, which runs the command as
the account that sshd runs it as.

Pushes come in as lines of JSON; when they end and all keys have been asked about, what was seen goes out as one line.
"""

import grp
import heapq
import json
import os
import pwd
import select
import subprocess
import sys
from base64 import b64decode
from hashlib import sha256
from pathlib import Path

from crash.load import SUCCESS, boot_time

# How long a key lives, from the push.
LIFETIME = 60

# The second look is so long before the end of a key's life.
BEFORE_END = 5

# A look that has ended so long before the end of a key's life must have found it: the agent, which knows the control
# plane's clock but for one round trip, may end it earlier by that.
TOLERANCE = 2


class Machine:
    """How its sshd asks for keys."""

    def __init__(self, folder):
        lines = (folder / "ssh/sshd_config").read_text().splitlines()
        config = dict(line.split(" ", 1) for line in lines)
        self.words = config["AuthorizedKeysCommand"].split()
        self.account = config["AuthorizedKeysCommandUser"]
        self.live = folder / "run/live"

    def ask(self, user, fingerprint):
        """What the command prints."""
        # These users have no account; any id but root's will do.
        replaced = {"%u": user, "%f": fingerprint, "%U": "4321"}
        words = [replaced.get(word, word) for word in self.words]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        return done.stdout if done.returncode == 0 else f"exit status {done.returncode}"

    def deadline(self, user, fingerprint):
        """The end of a key's life, as its file says."""
        name = b64decode(fingerprint.removeprefix("SHA256:") + "=").hex()
        try:
            line = (self.live / sha256(user.encode()).hexdigest() / name).read_text().split("\n", 1)[0]
        except OSError:
            return None
        return int(line.removeprefix("!Deadline=")) / 1e9


def looks_due(push):
    """When to look for a key, and which look that is."""
    if push["answer"] == SUCCESS:
        yield push["ended_at"], "first"
        yield push["sent_at"] + LIFETIME - BEFORE_END, "last"
    # Whenever it was granted, it was by then.
    yield push["ended_at"] + LIFETIME, "after"


def look(machine, push, which):
    begun_at = boot_time()
    printed = machine.ask(push["user"], push["fingerprint"])
    seen = {"which": which, "number": push["number"], "begun_at": begun_at, "ended_at": boot_time()}
    seen["printed"] = {push["key"] + "\n": "the key", "": "nothing"}.get(printed, printed)
    if which == "last":
        seen["deadline"] = machine.deadline(push["user"], push["fingerprint"])
    return seen


def drop_privileges(account):
    if os.geteuid() == 0:
        # What is judged may be slow on a busy machine; the moments to judge at do not wait.
        os.nice(-10)
        account = pwd.getpwnam(account)
        os.setgroups([group.gr_gid for group in grp.getgrall() if account.pw_name in group.gr_mem])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)


def main(folders):
    machines = {folder.name: Machine(folder) for folder in map(Path, folders)}
    [account] = {machine.account for machine in machines.values()}
    drop_privileges(account)
    due, seen, partial, more = [], [], b"", True
    while more or due:
        wait = max(0, due[0][0] - boot_time()) if due else None
        if select.select([0] if more else [], [], [], wait)[0]:
            read = os.read(0, 65536)
            *lines, partial = (partial + read).split(b"\n")
            more = bool(read)
            for push in map(json.loads, lines):
                for moment, which in looks_due(push):
                    heapq.heappush(due, (moment, push["number"], which, push))
        elif due:
            _, _, which, push = heapq.heappop(due)
            seen.append(look(machines[push["instance"]], push, which))
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
