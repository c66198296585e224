"""Our command and the stock host scripts for the same key on the same machine, in alternation: what bench/stock-scripts runs.

The machine is that of e2e/test_stock_machine.py: namespaces, an agent with the metadata service at its address, and a dev
control plane. Both are asked as sshd asks, by user and fingerprint."""

import json
import os
import statistics
import tempfile
from pathlib import Path

from dev import Key
from host import COMMAND
from test_stock_machine import SCRIPTS, Network, stock_machine

ROUNDS = 20

# Runs each command once a round and prints one line of JSON: for each command its runs, each with the time from start to end and the
# processor time of it and all its children, in seconds, the processes that began meanwhile on the whole system, and what it printed.
STOPWATCH = """
import json, os, resource, subprocess, sys, time

def processes():
    return int(next(line for line in open("/proc/stat") if line.startswith("processes")).split()[1])

rounds, commands = json.loads(sys.argv[1])
runs = [[] for _ in commands]
for _ in range(rounds):
    for command, kept in zip(commands, runs):
        began, before, first = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN), processes()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        kept.append([time.monotonic() - began, used, processes() - first, done.stdout])
print(json.dumps(runs))
"""


def main():
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder, name) for name in ("dev", "host")]
        Path(folder).chmod(0o755)
        for each in folders:
            each.mkdir()
        network = Network()
        try:
            with stock_machine(*folders, network) as machine:
                measure(machine, Key(Path(folder, "key")))
        finally:
            network.close()


def measure(machine, key):
    with_key, without = ["alice", key.fingerprint], ["bob", key.fingerprint]
    commands = {
        "/bin/true": ["/bin/true"],
        "our command, with a key": [COMMAND, "--", *with_key],
        "the scripts, with a key": [f"{SCRIPTS}/eic_run_authorized_keys", *with_key],
        "our command, without": [COMMAND, "--", *without],
        "the scripts, without": [f"{SCRIPTS}/eic_run_authorized_keys", *without],
    }
    machine.send_key(key)
    printed = machine.run("python3", "-c", STOPWATCH, json.dumps([ROUNDS, list(commands.values())])).stdout
    runs = dict(zip(commands, json.loads(printed), strict=True))
    for name, command in commands.items():
        for *_, output in runs[name]:
            # A run that did not say what it should is no figure.
            assert (key.public.split()[1] in output) == (command[-2:] == with_key), (name, output)
    print(f"{ROUNDS} runs each, in alternation, on {os.cpu_count()} CPUs; load {os.getloadavg()[0]:.2f} at the end; medians")
    print(f"{'':<26}{'wall':>12}{'CPU':>12}{'processes':>12}")
    medians = {name: [statistics.median(column) for column in list(zip(*each))[:3]] for name, each in runs.items()}
    for name, (wall, used, processes) in medians.items():
        print(f"{name:<26}{wall * 1e3:>9.2f} ms{used * 1e3:>9.2f} ms{processes:>12.0f}")
    for which in ("with a key", "without"):
        ratios = [theirs / ours for theirs, ours in zip(medians[f"the scripts, {which}"], medians[f"our command, {which}"], strict=True)]
        print(f"{'scripts / ours, ' + which:<26}" + "".join(f"{ratio:>11.0f}×" for ratio in ratios))


if __name__ == "__main__":
    main()
