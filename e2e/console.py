"""People at serial consoles, as the tests see them: plain ssh to the gateway of a `dev`."""

import subprocess
import threading

from system import PATIENCE, eventually


class Console:
    """Plain ssh to the serial console of an instance, with a terminal at the other end of pipes of ours."""

    def __init__(self, dev, key, instance=None, address=None, options=(), command=()):
        gateway = dev.ready["serial_console"]
        known_hosts = dev.scratch / "console_known_hosts"
        known_hosts.write_text(f"[{gateway['host']}]:{gateway['port']} {gateway['host_key']}\n")
        words = ["ssh", "-F", "none", "-tt", "-i", key.file, "-p", gateway["port"]]
        for option in (
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={known_hosts}",
            "GlobalKnownHostsFile=none",
            f"ConnectTimeout={PATIENCE}",
            *options,
        ):
            words += ["-o", option]
        words += [f"{address or (instance or dev.first).id + '.port0'}@{gateway['host']}", *command]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([str(word) for word in words], stdin=pipe, stdout=pipe, stderr=pipe)
        dev.started.append(self.process)
        self._shown = bytearray()
        self._errors = bytearray()
        streams = ((self.process.stdout, self._shown), (self.process.stderr, self._errors))
        self._readers = [threading.Thread(target=self._collect, args=each, daemon=True) for each in streams]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _collect(stream, into):
        while piece := stream.read1(65536):
            into.extend(piece)

    @property
    def shown(self):
        """All that was on the screen until now."""
        return self._shown.decode(errors="replace")

    @property
    def errors(self):
        return self._errors.decode(errors="replace")

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def expect(self, text, behind=0):
        """Waits until this is shown, and gives where it ends."""
        found = eventually(
            lambda: text in self.shown[behind:] or self.process.poll() is not None,
            f"{text!r} is shown; there is {self.shown!r} {self.errors!r}",
        )
        assert found and text in self.shown[behind:], f"{text!r} is not in {self.shown!r}; ssh says {self.errors!r}"
        return behind + self.shown[behind:].index(text) + len(text)

    def run(self, command, answer):
        """Types a command at a prompt, and waits for what it says."""
        behind = len(self.shown)
        self.type(command + "\n")
        return self.expect(answer, behind)

    def ended(self):
        """The exit status of ssh, once it has ended and all it said is read."""
        status = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    @property
    def refused(self):
        """Nobody was let in."""
        return self.ended() == 255 and "Permission denied (publickey)." in self.errors and self.shown == ""

    def leave(self):
        """As people do who know ssh."""
        self.type("\n~.")
        return self.ended()
