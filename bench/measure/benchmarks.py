"""The benchmarks. Each gives rows for the table and notes to read beside them."""

import json
import os
import pwd
import re
import shutil
import statistics
import subprocess
import time

from place import Agents, Dev, Moto, Nginx, NotAFigure, Sshd, Swarm, processor_seconds, public_key
from report import Result, Row

IN_FLIGHT = 64

# 64 live keys for each OS user of an instance, 1,024 for each instance: the runs stay below both.
INSTANCES = 256
USERS = [f"user{number:02}" for number in range(16)]

ROUNDS = 3


def median(values):
    return statistics.median(values)


def push(place):
    result = Result("push")
    constants, dev_settings = [], {"without_machine": INSTANCES}
    with Dev(place, **dev_settings) as dev, Swarm(place, dev, USERS) as swarm:
        warmed = warm_up(place, dev, swarm.instances)
        result.settings |= {"request bytes": warmed["request_bytes"], "answer bytes": warmed["answer_bytes"]}
        with Nginx(place, warmed["answer_bytes"]) as nginx, Moto(place) as moto:
            place.push(moto.server, dev, swarm.instances, USERS, "--requests", IN_FLIGHT, "--seconds", 20)
            full, mocked = [], []
            for _ in range(ROUNDS):
                constants.append(constant(place, dev, swarm, nginx))
                full.append(ours(place, dev, swarm))
                mocked.append(run(place, moto, dev, swarm, {"moto": [moto.pid]}, "--requests", 2000, "--seconds", 4))
    with Dev(place, **dev_settings) as dev, Swarm(place, dev, USERS, acknowledge_only=True) as swarm:
        warm_up(place, dev, swarm.instances)
        with Nginx(place, warmed["answer_bytes"]) as nginx:
            bare = []
            for _ in range(ROUNDS):
                constants.append(constant(place, dev, swarm, nginx))
                bare.append(ours(place, dev, swarm))
    result.raw = {"nginx": constants, "agents": full, "acknowledged at once": bare, "moto": mocked}

    def per_second(runs):
        return median(run["per_second"] for run in runs)

    nginx_rate, moto_rate = per_second(constants), per_second(mocked)
    rows = [
        Row("push/s, real agents in one process", per_second(full), "nginx constant", nginx_rate, (0.08, 0.2)),
        Row("push/s, real agents in one process", per_second(full), "moto", moto_rate, (25, 60)),
        Row("push/s, acknowledged at once", per_second(bare), "nginx constant", nginx_rate, None),
        Row("push/s, acknowledged at once", per_second(bare), "moto", moto_rate, None),
    ]
    result.rows = [row.format("{:,.0f}/s") for row in rows]
    for what, runs in [("real agents", full), ("acknowledged at once", bare), ("nginx", constants), ("moto", mocked)]:
        result.notes.append(describe(what, runs))
    result.notes.append(
        f"push: {result.settings['request bytes']} bytes asked; answered "
        f"{full[-1]['answer_bytes']} (ours), {constants[-1]['answer_bytes']} (nginx), {mocked[-1]['answer_bytes']} (moto)"
    )
    return result


def warm_up(place, dev, instances):
    """A push to each instance, which also waits for its link."""
    return place.push(
        dev.server, dev, instances, USERS, "--requests", INSTANCES, "--in-flight", 16, "--seconds", 20
    )


def ours(place, dev, swarm):
    return run(place, dev, dev, swarm, {"control plane": [dev.control_plane], "swarm": [swarm.pid]}, "--requests", 60_000, "--seconds", 4)


def constant(place, dev, swarm, nginx):
    return run(place, nginx, dev, swarm, {"nginx": nginx.workers()}, "--requests", 30_000, "--seconds", 2, "--again")


def run(place, server, dev, swarm, processes, *arguments):
    before = {name: processor_seconds(pids) for name, pids in processes.items()}
    result = place.push(server.server, dev, swarm.instances, USERS, "--in-flight", IN_FLIGHT, *arguments)
    used = {name: processor_seconds(pids) - before[name] for name, pids in processes.items()}
    result["processor_us"] = {name: 1e6 * seconds / result["succeeded"] for name, seconds in used.items()}
    return result


def describe(what, runs):
    spread = ", ".join(f"{run['per_second']:,.0f}" for run in runs)
    latencies = [run["latency"] for run in runs]
    p50, p99 = (median(latency[p] for latency in latencies) / 1000 for p in ["p50_us", "p99_us"])
    processor = {}
    for run in runs:
        for name, used in run["processor_us"].items():
            processor.setdefault(name, []).append(used)
    processor = ", ".join(f"{name} {median(used):.0f} us" for name, used in processor.items())
    client = median(run["client_processor_seconds"] / run["seconds"] for run in runs)
    return (
        f"push, {what}: runs {spread}/s; p50 {p50:.2f} ms, p99 {p99:.2f} ms; processor time of one: {processor}; "
        f"client busy {client:.0%} of one CPU"
    )


def cpu(place):
    """32 agent processes, and accounts that exist on this machine."""
    result = Result("cpu")
    machines, count = 32, 12_000
    users = os_users()
    with Dev(place, without_machine=machines) as dev, Agents(place, dev) as agents:
        place.push(dev.server, dev, agents.instances, users, "--requests", machines, "--in-flight", 8, "--seconds", 20)

        def used():
            return [processor_seconds([dev.control_plane]), processor_seconds(agents.pids)]

        idle_from = used()
        time.sleep(5)
        start = used()
        pushed = place.push(
            dev.server, dev, agents.instances, users, "--requests", count, "--in-flight", IN_FLIGHT, "--seconds", 30
        )
        after = used()
        # The agents remove the files when their minute is over; that belongs to a push too. Keeping a link does not.
        time.sleep(63)
        end = used()
    done = pushed["succeeded"]
    idle = sum(start) - sum(idle_from)
    server, agent = (1e6 * (after[i] - start[i]) / done for i in range(2))
    later = 1e6 * max(0, sum(end) - sum(after) - 63 / 5 * idle) / done
    total = server + agent + later
    result.rows = [Row("CPU per push, all our processes", total, None, None, (250, 120), at_most=True).format("{:.0f} us")]
    result.notes.append(
        f"cpu: {done} pushes to {machines} agent processes at {pushed['per_second']:,.0f}/s: control plane {server:.0f} us, "
        f"agents {agent:.0f} us, keys removed a minute later {later:.0f} us; not in it: all of them idle, "
        f"{idle / 5 * 1000:.1f} ms a second"
    )
    result.raw = {"pushed": pushed, "control_plane_us": server, "agents_us": agent, "later_us": later, "idle_5s": idle}
    return result


def os_users():
    """Accounts of this machine but root, whose names the API takes."""
    names = [user.pw_name for user in pwd.getpwall() if user.pw_uid != 0]
    return [name for name in names if re.fullmatch(r"[A-Za-z_][A-Za-z0-9._-]{0,30}", name)][:16]


def latency(place):
    result = Result("latency")
    machines, count = 4, 2000
    users = os_users()
    with Dev(place, without_machine=machines) as dev, Agents(place, dev) as agents:
        place.push(dev.server, dev, agents.instances, users, "--requests", machines, "--in-flight", 1, "--seconds", 20)
        pushed = place.push(
            dev.server, dev, agents.instances, users, "--requests", count, "--in-flight", 1, "--seconds", 15
        )
    with Dev(place, without_machine=1) as dev:
        directory = place.memory / place.fresh("link")
        directory.mkdir()
        link = place.load("round-trip", "--join-tokens", dev.join_tokens, "--dir", directory, "--count", 2000)
    push, floor = pushed["latency"], sync_probe(place)
    beyond = (push["p99_us"] - link["p50_us"]) / 1000
    result.rows = [
        Row("push p99 beyond a link round trip", beyond, None, None, (10, 5), at_most=True).format("{:.2f} ms")
    ]
    result.notes.append(
        f"latency: {push['count']} pushes one after the other: p50 {push['p50_us'] / 1000:.2f} ms, p99 {push['p99_us'] / 1000:.2f} ms; "
        f"link round trip p50 {link['p50_us']:.0f} us, p99 {link['p99_us']:.0f} us; two syncs are in each push, one here "
        f"takes p50 {floor['p50_us']:.0f} us, p99 {floor['p99_us']:.0f} us"
    )
    result.raw = {"push": push, "link": link, "sync": floor}
    return result


def sync_probe(place, count=300):
    """Appending a line as long as an audit record and syncing it, on the disk that the audit log is on."""
    durations = []
    with open(place.disk / "probe", "ab", buffering=0) as file:
        for _ in range(count):
            start = time.perf_counter()
            file.write(b"x" * 1000)
            os.fdatasync(file.fileno())
            durations.append((time.perf_counter() - start) * 1e6)
    durations.sort()
    return {"p50_us": durations[count // 2], "p99_us": durations[count * 99 // 100]}


def sshd_command(place):
    result = Result("sshd-command")
    with Dev(place) as dev:
        instance = dev.ready["instances"][0]
        home = dev.directory / "instances" / instance["instance_id"]
        command = [
            place.program("instance-connect-authorized-keys"), "--etc", home / "etc", "--run", home / "run",
            "--syslog", home / "syslog.sock", instance["os_user"],
        ]
        uid = str(pwd.getpwnam(instance["os_user"]).pw_uid)
        key, fingerprint = public_key()
        _, unknown = public_key()
        present = [*map(str, command), fingerprint, uid]
        absent = [*map(str, command), unknown, uid]
        send = [place.program("instance-connect"), "send-key", instance["instance_id"], "--ssh-public-key", key,
                "--os-user", instance["os_user"]]
        subprocess.run(send, env=os.environ | dev.environment(), check=True, stdout=subprocess.DEVNULL)
        for program, expected in [(present, key + "\n"), (absent, "")]:
            printed = subprocess.run(program, capture_output=True, text=True, check=True).stdout
            if printed != expected:
                raise NotAFigure(f"the sshd command printed {printed!r}, not {expected!r}")
        found, missed, true = programs(place, 500, present, absent, ["/bin/true"])
    file = subprocess.run(["file", "-bL", command[0]], capture_output=True, text=True).stdout if shutil.which("file") else ""
    rows = [
        Row("sshd command, key present", found["p50_us"], "/bin/true", true["p50_us"], (1.8, 1.5), at_most=True),
        Row("sshd command, key absent", missed["p50_us"], "/bin/true", true["p50_us"], (1.8, 1.5), at_most=True),
    ]
    result.rows = [row.format("{:.0f} us") for row in rows]
    result.notes.append(
        "sshd-command: medians of 500 each, in turn; p99 "
        f"{found['p99_us']:.0f} us present, {missed['p99_us']:.0f} us absent, {true['p99_us']:.0f} us /bin/true"
        + (f"; the command is {'static' if 'static' in file else 'NOT static: not what ships'}" if file else "")
        + ". The stock host scripts are not run here"
    )
    result.raw = {"present": found, "absent": missed, "true": true}
    return result


def send_key(place):
    result, rounds = Result("send-key"), 20
    with Dev(place) as dev:
        instance = dev.ready["instances"][0]
        keys = place.disk / place.fresh("keys")
        keys.mkdir()
        for number in range(rounds):
            (keys / f"{number}.pub").write_text(public_key()[0] + "\n")
        id, user = instance["instance_id"], instance["os_user"]
        ours = [place.program("instance-connect"), "send-key", f"{user}@{id}", "--ssh-public-key", f"{keys}/{{round}}.pub"]
        theirs = [str(place.aws), "ec2-instance-connect", "send-ssh-public-key", "--instance-id", id,
                  "--instance-os-user", user, "--ssh-public-key", f"file://{keys}/{{round}}.pub"]
        environment = os.environ | dev.environment()
        # Once before, so that Python has compiled what it loads.
        programs(place, 1, ours, theirs, environment=environment)
        mine, aws, true = programs(place, rounds, ours, theirs, ["/bin/true"], environment=environment)
    result.rows = [
        Row("send-key, whole process", mine["p50_us"] / 1000, "aws CLI v1", aws["p50_us"] / 1000, (60, 150), faster=True)
        .format("{:.2f} ms")
    ]
    result.notes.append(
        f"send-key: medians of {rounds} each, in turn; p90 {mine['p90_us'] / 1000:.2f} ms ours, {aws['p90_us'] / 1000:.0f} ms "
        f"aws; /bin/true {true['p50_us'] / 1000:.2f} ms. The goal is against version 2 of the AWS CLI, which is not on PyPI"
    )
    result.raw = {"ours": mine, "aws": aws, "true": true}
    return result


def ssh(place):
    """A command over ssh: with our program, by the generated configuration, and with a key that is in a file on both sides."""
    result, rounds = Result("ssh"), 20
    with Dev(place, os_user=None) as dev:
        instance = dev.ready["instances"][0]
        id, user = instance["instance_id"], instance["os_user"]
        with Sshd(place, dev, instance) as standing:
            config, program = place.disk / place.fresh("config"), place.program("instance-connect")
            config.touch(mode=0o600)
            install = [program, "ssh-config", "install", "--config", config, "--agents", place.memory, "--os-user", user,
                       "--ready-file", dev.directory / "ready.json"]
            subprocess.run(list(map(str, install)), check=True, stdout=subprocess.DEVNULL)
            commands = [
                [program, "ssh", "--ready-file", str(dev.directory / "ready.json"), f"{user}@{id}", "true"],
                ["ssh", "-F", str(config), "-o", "BatchMode=yes", id, "true"],
                standing.command("true"),
            ]
            programs(place, 1, *commands)
            ours, configured, theirs = programs(place, rounds, *commands)
    for what, figures in [("instance-connect ssh HOST true", ours), ("ssh HOST true, by ssh-config", configured)]:
        row = Row(what, figures["p50_us"] / 1000, "ssh, a standing key", theirs["p50_us"] / 1000, (1.2, 1.1), at_most=True)
        result.rows.append(row.format("{:.0f} ms"))
    result.notes.append(
        f"ssh: medians of {rounds} each, in turn; p90 {ours['p90_us'] / 1000:.0f} ms ours, {configured['p90_us'] / 1000:.0f} ms "
        f"by ssh-config, {theirs['p90_us'] / 1000:.0f} ms with a standing key, to an sshd with the same settings but for the "
        "key's file. Key, push and the machine's word are in ours"
    )
    result.raw = {"ours": ours, "ssh-config": configured, "standing key": theirs}
    return result


def programs(place, rounds, *commands, environment=None):
    words = [word for command in commands for word in ["--program", json.dumps(command)]]
    return place.load("programs", "--rounds", rounds, *words, environment=environment)


def sizes(place):
    result = Result("sizes")
    for name in ["instance-connectd", "instance-connect-agent", "instance-connect-authorized-keys", "instance-connect"]:
        size = os.path.getsize(place.program(name)) / 2**20
        result.rows.append(Row(f"{name}, release binary", size, None, None, None).format("{:.1f} MiB"))
    return result
