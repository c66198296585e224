"""Setting a machine up: what changes, that logins work by it, and that everything is as before when it is undone."""

import os

import pytest

from host import COMMAND, DROP_IN, SSHD_CONFIG, Host
from system import root_only, run, stop

pytestmark = root_only

TREES = ["etc", "usr", "opt", "var", "run"]


@pytest.fixture
def new_host(tmp_path_factory):
    hosts = []

    def start(**options):
        hosts.append(Host(tmp_path_factory.mktemp("host"), **options))
        return hosts[-1]

    yield start
    for host in hosts:
        host.close()


@pytest.fixture
def host(new_host):
    return new_host()


def sshd_command(host):
    return host.effective("authorizedkeyscommand"), host.effective("authorizedkeyscommanduser")


OURS = (f"{COMMAND} %u %f %U", "instance-connect-keys")


@pytest.fixture
def pushed(new_dev, new_key):
    """A push to a host that takes over the first machine of a `dev`."""
    dev = new_dev()

    def push(host, user="alice"):
        key = new_key()
        dev.push(key, user=user)
        return key

    push.dev = dev
    return push


def link(host, dev):
    """Links the host as the first machine of a `dev`, whose agent is stopped for that."""
    stop(dev.first.agent())
    host.start_agent()


def test_a_pushed_key_logs_in_after_install_and_not_after_uninstall(host, pushed, new_key):
    standing = new_key()
    host.add_user("alice", standing_key=standing)
    host.take_identity(pushed.dev.first)
    host.start_sshd()
    assert host.login(standing)
    before = host.state("etc/ssh")

    said = host.install().stdout
    assert f"write /{DROP_IN}" in said and "sshd has been told" in said
    host.await_sshd()
    link(host, pushed.dev)
    key = pushed(host)
    assert host.login(key) and host.login(standing)
    assert not host.login(new_key())
    assert not host.login(key, "root")

    installed = host.state("etc", "var/lib")
    assert "nothing to change" in host.install().stdout
    assert host.state("etc", "var/lib") == installed

    key = pushed(host)
    said = host.uninstall().stdout
    assert "which\nstill opens a link until it is revoked" in said
    host.await_sshd()
    assert host.state("etc/ssh") == before
    assert not host.login(key) and host.login(standing)


LAYOUTS = {
    "a drop-in": (SSHD_CONFIG, {}, True),
    "no Include": ("UsePAM yes\nMatch User bob\n\tX11Forwarding no", {}, False),
    "an Include in a Match": ("UsePAM yes\nMatch User bob\nInclude /etc/ssh/sshd_config.d/*.conf\n", {}, False),
    "CRLF and no last line feed": ("UsePAM yes\r\n#end", {}, False),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_of_sshds_files_is_as_before_in_the_end(new_host, layout):
    config, drop_ins, is_drop_in = LAYOUTS[layout]
    host = new_host(sshd_config=config)
    for name, text in drop_ins.items():
        host.write(f"etc/ssh/sshd_config.d/{name}", text)
    (host.root / "etc/ssh/sshd_config").chmod(0o600)
    before = host.state(*TREES)
    assert "Nothing has been changed" in host.install("--dry-run").stdout
    assert host.state(*TREES) == before

    host.install()
    assert sshd_command(host) == OURS
    assert (host.root / DROP_IN).exists() == is_drop_in
    host.install()
    # What comes with time, and what a crash leaves.
    for name in ("etc/instance-connect/lock", "etc/instance-connect/.new", "var/lib/instance-connect-agent/anchors.next", "var/lib/instance-connect-agent/.new"):
        host.write(name, "")
    host.uninstall("--purge")
    assert host.state(*TREES) == before


def test_as_a_directory_from_outside(host):
    """As a package's script or an image builder has it: --root, and the programs of that system."""
    before = host.state(*TREES)
    words = ["nsenter", "--target", str(host.space.pid), "--mount", f"{host.root}/opt/ic/instance-connect-agent"]
    run(*words, "install", "--root", host.root)
    assert sshd_command(host) == OURS
    run(*words, "uninstall", "--purge", "--root", host.root)
    assert host.state(*TREES) == before


def test_where_sshd_has_never_run(host):
    """Its service makes the directory that it insists on; an image has none yet."""
    host.run("rmdir", "/run/sshd")
    before = host.state(*TREES)
    host.install()
    host.run("mkdir", "/run/sshd")
    assert sshd_command(host) == OURS
    host.run("rmdir", "/run/sshd")
    host.uninstall("--purge")
    assert host.state(*TREES) == before


def test_a_record_that_others_could_have_written_is_not_followed(host):
    host.install()
    record = host.root / "etc/instance-connect/installed.json"
    record.write_text(record.read_text().replace("/run/instance-connect", "/home"))
    record.chmod(0o666)
    failed = host.uninstall(check=False)
    assert failed.returncode == 1 and "installed.json" in failed.stderr
    assert (host.root / DROP_IN).exists()


def test_nothing_changes_where_sshd_refuses_its_files_as_they_are(new_host):
    host = new_host(sshd_config="NoSuchKeyword yes\n")
    before = host.state(*TREES)
    failed = host.install(check=False)
    assert failed.returncode == 1 and "NoSuchKeyword" in failed.stderr
    assert host.state(*TREES) == before


# An sshd that has something against our file, and one that knows better whom to ask.
REFUSING = '#!/bin/sh\nif grep -qs instance-connect-keys /etc/ssh/sshd_config.d/*; then echo "line 4: no" >&2; exit 255; fi\nexec /usr/sbin/sshd.real "$@"\n'
IGNORING = '#!/bin/sh\nexec /usr/sbin/sshd.real -o AuthorizedKeysCommand=none "$@"\n'


@pytest.mark.parametrize("sshd, said", [(REFUSING, "line 4: no"), (IGNORING, "none as instance-connect-keys")])
def test_whatever_sshd_has_against_it_everything_is_as_before(host, sshd, said):
    host.run("mv", "/usr/sbin/sshd", "/usr/sbin/sshd.real")
    host.write("tmp/sshd", sshd, 0o755)
    host.run("mv", "/tmp/sshd", "/usr/sbin/sshd")
    before = host.state(*TREES)
    failed = host.install(check=False)
    assert failed.returncode == 1 and "everything is as it was before" in failed.stderr and said in failed.stderr
    assert host.state(*TREES) == before


def test_a_file_of_somebody_elses_under_our_name_stays(host):
    host.write(DROP_IN, "UsePAM yes\n")
    before = host.state(*TREES)
    failed = host.install(check=False)
    assert "not ours" in failed.stderr
    assert host.state(*TREES) == before


def test_uninstall_does_not_leave_an_sshd_that_would_not_start(host):
    host.install()
    # Somebody has come to rely on it: without a user, sshd refuses a command.
    host.write("etc/ssh/sshd_config.d/10-mine.conf", "AuthorizedKeysCommand /bin/true\n")
    before = host.state(*TREES)
    failed = host.uninstall(check=False)
    assert failed.returncode == 1 and "AuthorizedKeysCommandUser" in failed.stderr
    assert host.state(*TREES) == before


def chain(host, script, name="usr/local/bin/keys", user="bob"):
    """A command that a machine has had for long, as a user of its own."""
    host.write("tmp/keys", f"#!/bin/sh\n{script}\n", 0o755)
    host.run("mkdir", "-p", f"/{os.path.dirname(name)}")
    host.run("mv", "/tmp/keys", f"/{name}")
    host.run("useradd", "--system", user)
    host.write("etc/ssh/sshd_config.d/50-keys.conf", f"AuthorizedKeysCommand /{name} %u \"%t key\"\nAuthorizedKeysCommandUser {user}\n")


def test_a_command_that_was_there_still_answers(host, pushed, new_key):
    theirs, standing = new_key(), new_key()
    host.add_user("alice", standing_key=standing)
    script = f'[ "$(id -un)" = bob ] && [ "$2" = "ssh-ed25519 key" ] && [ "$1" = alice ] && echo "{theirs.public}"; exit 0'
    chain(host, script)
    host.start_sshd()
    assert host.login(theirs)
    before = host.state("etc/ssh")
    host.take_identity(pushed.dev.first)
    said = host.install().stdout
    assert "it stays" in said and "put the user bob into the group instance-connect-keys" in said
    host.await_sshd()
    assert sshd_command(host) == (f'{COMMAND} %u %f %U --chain /usr/local/bin/keys %u "%t key"', "bob")
    link(host, pushed.dev)
    assert host.login(pushed(host)) and host.login(theirs) and host.login(standing)
    assert not host.login(new_key())

    # Whatever becomes of it, pushed keys log in, and the others' files work.
    for broken in ["sleep 1000", "yes ssh-ed25519", "kill -9 $$", "exec no-such-program"]:
        host.write("tmp/keys", f"#!/bin/sh\n{broken}\n", 0o755)
        host.run("cp", "/tmp/keys", "/usr/local/bin/keys")
        assert host.login(pushed(host)), broken
        assert host.login(standing), broken
        assert not host.login(theirs), broken

    host.uninstall()
    host.await_sshd()
    assert host.state("etc/ssh") == before
    assert "bob" not in host.run("getent", "group", "instance-connect-keys", check=False).stdout


def test_a_command_that_sshd_does_not_run_is_not_chained(host):
    chain(host, "echo")
    host.run("chmod", "g+w", "/usr/local/bin/keys")
    before = host.state(*TREES)
    failed = host.install(check=False)
    assert "writable by others than its owner" in failed.stderr and "--no-chain" in failed.stderr
    assert host.state(*TREES) == before
    host.install("--no-chain")
    assert sshd_command(host) == OURS
    host.uninstall("--purge")
    assert host.state(*TREES) == before


STOCK_DROP_IN = """[Service]
ExecStart=
ExecStart=/usr/sbin/sshd -D -o "AuthorizedKeysCommand /usr/share/ec2-instance-connect/eic_run_authorized_keys %%u %%f" -o "AuthorizedKeysCommandUser nobody" $SSHD_OPTS
"""


def test_the_stock_packages_option_is_explained_and_masked_on_demand(host):
    chain(host, "exit 0", "usr/share/ec2-instance-connect/eic_run_authorized_keys")
    (host.root / "etc/ssh/sshd_config.d/50-keys.conf").unlink()
    host.write("tmp/drop-in", STOCK_DROP_IN)
    host.run("mkdir", "-p", "/usr/lib/systemd/system/ssh.service.d")
    host.run("mv", "/tmp/drop-in", "/usr/lib/systemd/system/ssh.service.d/ec2-instance-connect.conf")
    before = host.state(*TREES)
    failed = host.install(check=False)
    assert "/usr/lib/systemd/system/ssh.service.d/ec2-instance-connect.conf" in failed.stderr
    assert "an option beats every file" in failed.stderr and "--mask-unit-drop-in" in failed.stderr
    assert host.state(*TREES) == before

    host.install("--mask-unit-drop-in")
    mask = host.root / "etc/systemd/system/ssh.service.d/ec2-instance-connect.conf"
    assert os.readlink(mask) == "/dev/null"
    stock = "/usr/share/ec2-instance-connect/eic_run_authorized_keys %u %f"
    assert sshd_command(host) == (f"{OURS[0]} --chain {stock}", "nobody")
    host.install("--mask-unit-drop-in")
    host.uninstall("--purge")
    assert host.state(*TREES) == before
