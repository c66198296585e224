"""What the tests need of the system: accounts, processes, clocks, and waiting for events."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = os.geteuid() == 0

root_only = pytest.mark.skipif(
    not ROOT, reason="needs root: other accounts' logins, time namespaces or mounts. Run ./test e2e as root for these"
)

# For what takes milliseconds on an idle machine; this one may be busy.
PATIENCE = 60


def eventually(condition, what, within=PATIENCE):
    """The first true value of `condition`, which is tried until then."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.02)


def run(*command, check=True, **options):
    """Runs a program to its end with nothing on its standard input, and gives what it said."""
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": PATIENCE, **options}
    done = subprocess.run([str(word) for word in command], **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def shifted_boot_clock(seconds):
    """The beginning of a command whose children see a boot clock that is so many seconds ahead, like a machine that
    much later. Wall clock and monotonic clock stay as they are."""
    return ["unshare", "--time", "--boottime", str(seconds)]


# Without `faketime` before a program: it would take our signals, and it fails where an earlier one of its process id left its
# semaphore. The linker knows what $LIB stands for.
FAKETIME = {"LD_PRELOAD": "/usr/$LIB/faketime/libfaketimeMT.so.1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def shifted_wall_clock(offset):
    """Variables that shift the wall clock of a program, such as by "+10m". Its other clocks stay as they are."""
    return {**FAKETIME, "FAKETIME": offset}


class MovingClock:
    """A wall clock that is moved while programs run that were started with its `variables`."""

    def __init__(self, file):
        self.file = file
        self.variables = {**FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}
        self.move(0)

    def move(self, seconds):
        """To so many seconds ahead of ours."""
        written = self.file.with_suffix(".new")
        written.write_text(f"+{seconds}\n")
        written.rename(self.file)


def processes_naming(text):
    """The ids of processes with `text` in their command lines, our own left out."""
    return [pid for pid, words in command_lines() if text in " ".join(words) and pid != os.getpid()]


def command_lines():
    """Ids and command lines of all processes."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            words = read_of_process(entry / "cmdline")
            yield int(entry.name), words.decode(errors="replace").rstrip("\0").split("\0")


def read_of_process(file):
    """A file of a process, empty once the process has ended."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def children(pid):
    """The ids of the processes that a process has started."""
    of_threads = [read_of_process(file).split() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for of_thread in of_threads for child in of_thread]


def descendants(pid):
    """The ids of all processes below one."""
    return [found for child in children(pid) for found in (child, *descendants(child))]


def is_running(pid):
    """Whether a process is there and not just waiting for its parent to notice that it ended."""
    stat = read_of_process(Path(f"/proc/{pid}/stat")).decode(errors="replace")
    return bool(stat) and stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def is_stopped(pid):
    """Whether SIGSTOP has stopped every thread of a process."""
    states = [read_of_process(stat).decode(errors="replace") for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(state.rsplit(")", 1)[1].split()[0] == "T" for state in states if state)


def stop(pid):
    """Stops a process, and returns when it has stopped."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: is_stopped(pid), f"process {pid} stops")


def kill(pid):
    """Kills a process, and returns when it is gone."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_running(pid), f"process {pid} ends")


class Account:
    """A throwaway account of this machine. Only root can make one."""

    def __init__(self, name):
        self.name = name
        run("useradd", "--create-home", "--shell", "/bin/sh", name)

    @property
    def id(self):
        return run("id", "--user", self.name).stdout.strip()

    def as_user(self):
        """The beginning of a command that runs as this account."""
        group = run("id", "--group", self.name).stdout.strip()
        return ["setpriv", "--reuid", self.id, "--regid", group, "--init-groups", "--inh-caps=-all", "--"]

    def remove(self):
        run("userdel", "--force", "--remove", self.name)
