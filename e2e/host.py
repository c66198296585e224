"""A machine of its own to install on: its own /etc, /run, /var and homes, with this system's /usr below what it writes there.

It lives in a mount namespace of its own, so that nothing of it is left when that ends. Only root can have one."""

import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path

from dev import PROGRAMS, SSHD
from system import PATIENCE, eventually, kill, run

AGENT = "/opt/ic/instance-connect-agent"
DROP_IN = "etc/ssh/sshd_config.d/00-instance-connect.conf"
COMMAND = "/usr/libexec/instance-connect/instance-connect-authorized-keys"

# Accounts of the system itself, so that it starts small.
PASSWD = "root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"
SHADOW = "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\nnobody:*:19000:0:99999:7:::\n"
GROUP = "root:x:0:\nshadow:x:42:\nusers:x:100:\nnogroup:x:65534:\n"
# This system's, in small: PAM decides about accounts, and a key needs nobody's password.
PAM = "auth required pam_unix.so\naccount required pam_nologin.so\naccount required pam_unix.so\nsession required pam_unix.so\n"
# What many systems have besides: users choose variables, in ~/.pam_environment.
PAM_WITH_USERS_VARIABLES = PAM + "session required pam_env.so user_readenv=1\n"
SSHD_CONFIG = "# A comment that stays\n\nInclude /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n"


class Host:
    # The beginning of a command that runs in its network, which is this system's.
    network = ()

    def __init__(self, folder, sshd_config=SSHD_CONFIG):
        self.folder = folder
        self.root = folder / "root"
        self.sshd = self.agent = self.space = None
        for name in ("dev", "etc/pam.d", "etc/ssh/sshd_config.d", "home", "opt/ic", "proc", "root", "run/sshd", "sys", "tmp", "usr", "var/lib"):
            (self.root / name).mkdir(parents=True)
        for name in ("upper", "work"):
            (folder / name).mkdir()
        # Every directory above a program must be fit for sshd, and this one is not above it once it is /.
        for path in (self.root, *self.root.rglob("*")):
            path.chmod(0o755)
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path("/", name).is_symlink():
                (self.root / name).symlink_to(f"usr/{name}")
        for name, text in {"passwd": PASSWD, "shadow": SHADOW, "group": GROUP, "gshadow": "", "nsswitch.conf": ""}.items():
            self.write(f"etc/{name}", text)
        (self.root / "etc/shadow").chmod(0o640)
        self.write("etc/shells", "/bin/sh\n")
        for name in ("environment", "security/pam_env.conf"):
            self.write(f"etc/{name}", "")
        self.write("etc/pam.d/sshd", PAM)
        for name in ("other", "runuser", "useradd", "usermod"):
            self.write(f"etc/pam.d/{name}", "auth sufficient pam_rootok.so\naccount required pam_permit.so\nsession required pam_permit.so\n")
        self.write("etc/ssh/sshd_config", sshd_config)
        for name in ("login.defs", "ld.so.cache", "ld.so.conf", "alternatives"):
            if Path("/etc", name).is_dir():
                shutil.copytree(f"/etc/{name}", self.root / "etc" / name, symlinks=True)
            elif Path("/etc", name).exists():
                shutil.copy(f"/etc/{name}", self.root / "etc" / name)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.root / "etc/ssh/ssh_host_ed25519_key")
        for name in ("instance-connect-agent", "instance-connect-authorized-keys", "instance-connect-session"):
            shutil.copy(PROGRAMS / name, self.root / "opt/ic")
        self.enter_space()

    def enter_space(self):
        script = """
            mount -t overlay overlay -o "lowerdir=/usr,upperdir=$1/upper,workdir=$1/work" "$1/root/usr"
            mount --rbind /dev "$1/root/dev"
            mount -t proc proc "$1/root/proc"
            echo ready && exec sleep infinity
        """
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", str(self.folder)]
        self.space = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self.space.stdout.readline() == "ready\n"

    def words(self, *words):
        """A command line that runs there."""
        inside = [*self.network, "nsenter", "--target", self.space.pid, "--mount", "chroot", self.root, *words]
        return [str(word) for word in inside]

    def run(self, *words, check=True, environment=None, **options):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **(environment or {})}
        return run(*self.words(*words), check=check, env=environment, **options)

    def install(self, *arguments, check=True):
        return self.run(AGENT, "install", *arguments, check=check)

    def uninstall(self, *arguments, check=True):
        return self.run(AGENT, "uninstall", *arguments, check=check)

    def doctor(self, user="alice", environment=None, verdict="problem"):
        """What doctor finds wrong, or notes: checks by name. Its exit status says whether there are problems."""
        words = ["doctor", "--output", "json", "--os-user", user]
        done = self.run(AGENT, *words, check=False, environment=environment)
        diagnosis = json.loads(done.stdout)
        found = {check["check"]: check for check in diagnosis["checks"] if check["verdict"] == verdict}
        is_broken = any(check["verdict"] == "problem" for check in diagnosis["checks"])
        assert (done.returncode, diagnosis["healthy"]) == ((1, False) if is_broken else (0, True)), done
        assert all(check["why"] and check["mend"] for check in found.values())
        return found

    def write(self, name, text, mode=0o644):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def add_user(self, name, *options, standing_key=None):
        self.run("useradd", "--create-home", "--shell", "/bin/sh", *options, name)
        if standing_key:
            self.write(f"home/{name}/.ssh/authorized_keys", standing_key.public + "\n")
            self.run("chown", "-R", f"{name}:", f"/home/{name}")
            self.run("chmod", "-R", "go-rwx", f"/home/{name}/.ssh")

    def state(self, *below):
        """Everything below some directories: kinds, modes, owners, contents. What tools keep as a backup is left out."""
        state = {}
        for top in below:
            # Of /usr, what was written over this system's. A directory that is there below is there for that alone.
            top = self.folder / "upper" if top == "usr" else self.root / top
            for path in sorted(top.rglob("*")):
                is_backup = path.name.endswith("-") or path.name == ".pwd.lock"
                if is_backup or path.is_dir() and (Path("/usr") / path.relative_to(top)).is_dir():
                    continue
                found = path.lstat()
                content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
                digest = hashlib.sha256(content if isinstance(content, bytes) else content.encode()).hexdigest()
                name = str(path.relative_to(self.folder))
                state[name] = (stat.S_IFMT(found.st_mode), oct(found.st_mode), found.st_uid, found.st_gid, digest)
        return state

    def effective(self, keyword, user="alice"):
        """What sshd makes of its files."""
        login = f"user={user},host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22"
        lines = self.run("sshd", "-T", "-C", login).stdout.splitlines()
        return next((line.split(" ", 1)[1] for line in lines if line.startswith(f"{keyword} ")), None)

    def start_sshd(self, *options):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        words = self.words(SSHD, "-D", "-E", "/run/sshd.log", "-p", self.port, "-o", "ListenAddress=127.0.0.1", *options)
        self.sshd = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        self.await_sshd()

    def await_sshd(self):
        def listens():
            listing = run(*self.network, "ss", "-Hltn", "src", f"127.0.0.1:{self.port}").stdout
            return listing and (self.root / "run/sshd.pid").exists()

        eventually(listens, "sshd listens")

    @property
    def sshd_log(self):
        return (self.root / "run/sshd.log").read_text()

    def login(self, key, user="alice"):
        """Whether a login with this key runs a command over there."""
        public = (self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
        known_hosts = self.folder / "known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{self.port} {public[0]} {public[1]}\n")
        options = {"BatchMode": "yes", "IdentitiesOnly": "yes", "IdentityAgent": "none", "UserKnownHostsFile": known_hosts}
        words = ["ssh", "-F", "none", "-i", key.file, "-p", self.port, f"{user}@127.0.0.1"]
        for name, value in options.items():
            words[1:1] = ["-o", f"{name}={value}"]
        done = run(*self.network, *words, "id -un", check=False)
        return done.returncode == 0 and done.stdout == f"{user}\n"

    def take_identity(self, instance):
        """Becomes this machine of a `dev`, whose own agent goes to sleep meanwhile."""
        shutil.copytree(instance.folder / "etc", self.root / "etc/instance-connect", dirs_exist_ok=True)
        shutil.copytree(instance.folder / "state", self.root / "var/lib/instance-connect-agent", dirs_exist_ok=True)
        # Its metadata service is where that machine has it.
        (self.root / "etc/instance-connect/metadata.toml").unlink(missing_ok=True)

    def reload_sshd(self):
        """As `systemctl reload` does, and waits until it has read its files."""
        pid_file = self.root / "run/sshd.pid"
        before = pid_file.stat().st_mtime_ns
        os.kill(int(pid_file.read_text()), signal.SIGHUP)

        def has_read():
            # It takes the file away meanwhile.
            try:
                return pid_file.stat().st_mtime_ns > before and pid_file.read_text()
            except FileNotFoundError:
                return False

        eventually(has_read, "sshd reads its files")
        self.await_sshd()

    def shell(self, script):
        """Runs lines of shell there."""
        return self.run("sh", "-ec", script)

    def start_agent(self, within=PATIENCE, before=()):
        """Starts it as its service does, with `before` in front."""
        words = [*before, "setpriv", "--reuid=instance-connect-agent", "--regid=instance-connect-keys", "--clear-groups", "--"]
        with open(self.root / "agent.log", "w") as log:
            self.agent = subprocess.Popen(
                self.words(*words, "/usr/bin/instance-connect-agent", "run"), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        eventually(lambda: "the link is open" in (self.root / "agent.log").read_text(), "the agent has a link", within)

    def close(self):
        for process in (self.agent, self.sshd, self.space):
            if process and process.poll() is None:
                kill(process.pid)
                process.wait(PATIENCE)
