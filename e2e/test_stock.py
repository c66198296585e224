"""The distributions' own host package, as its scripts behave step by step (stock_host.py): what they are given by the
metadata service, which keys they give sshd, and that nothing they must not see comes to them."""

import concurrent.futures
import itertools
import json
import re
import socket
import threading
from urllib.parse import urlparse

import pytest

from dev import PROGRAMS
from stock_host import StockHost, Stopped, openssl
from system import MovingClock, eventually, kill, run, stop

TTL = "X-aws-ec2-metadata-token-ttl-seconds"


def signer_ca(dev, folder):
    """The root of those who sign, as an administrator gets it, where the scripts look for it."""
    folder.mkdir()
    root = run(PROGRAMS / "instance-connect", "signer", "ca", env=dev.environment()).stdout
    (folder / "Instance_Connect_signer_root.pem").write_text(root)
    return folder


@pytest.fixture(scope="module")
def authorities(dev, tmp_path_factory):
    return signer_ca(dev, tmp_path_factory.mktemp("stock") / "certs")


@pytest.fixture
def stock_host(dev, authorities, tmp_path):
    """The first machine, with the scripts on it."""
    return StockHost(metadata_url(dev.first), authorities, tmp_path)


def metadata_url(instance):
    entries = instance.dev.ready["instances"]
    return next(entry["metadata_url"] for entry in entries if entry["instance_id"] == instance.id)


def test_pushed_keys_of_different_callers_and_kinds_are_given_to_sshd_and_nothing_else(dev, stock_host, new_key):
    machine = dev.first
    assert dev.second.id != machine.id
    pushes = [
        dev.push(new_key()),
        dev.push(new_key("rsa-3072"), caller="limited"),
        dev.push(new_key("rsa-2048")),
    ]
    other = dev.push(new_key(), dev.second)
    for push in pushes:
        [provided] = stock_host.keys(machine.os_user, push.key.fingerprint)
        assert provided.line == push.key.public.strip()
        assert provided.request == push.request_id
    caller = stock_host.keys(machine.os_user, pushes[1].key.fingerprint)[0].caller
    assert caller == dev.ready["limited"]["arn"]
    # Without a fingerprint all of them, and none of another machine or user.
    lines = [provided.line for provided in stock_host.keys(machine.os_user)]
    assert {push.key.public for push in pushes} <= set(lines)
    assert other.key.public not in lines
    with pytest.raises(Stopped) as stopped:
        stock_host.keys(machine.os_user, other.key.fingerprint)
    assert stopped.value.status == 255
    assert stock_host.keys("nobody") == []


def test_what_the_scripts_were_given_is_on_record_as_offered(dev, stock_host, new_key):
    push = dev.push(new_key())
    assert stock_host.keys(push.user, push.key.fingerprint)
    eventually(
        lambda: any(record["eventName"] == "KeyOffered" for record in dev.events(push.request_id)),
        "the reading is on record",
    )


def test_a_revoked_key_is_gone_at_once(dev, stock_host, new_key):
    push, kept = dev.push(new_key()), dev.push(new_key())
    assert stock_host.keys(push.user, push.key.fingerprint)
    words = ["instance-connect", "revoke", "--instance", dev.first.id, "--fingerprint", push.key.fingerprint]
    run(PROGRAMS / words[0], *words[1:], env=dev.environment())
    with pytest.raises(Stopped) as stopped:
        stock_host.keys(push.user, push.key.fingerprint)
    assert stopped.value.status == 255
    assert stock_host.keys(kept.user, kept.key.fingerprint)


def test_keys_are_shown_on_without_control_plane_and_by_the_next_agent(new_dev, new_key, tmp_path):
    dev = new_dev()
    push = dev.push(new_key())
    host = StockHost(metadata_url(dev.first), signer_ca(dev, tmp_path / "certs"), tmp_path)
    assert host.keys(push.user, push.key.fingerprint)
    host.take_token(60)
    token = host.token
    agent = dev.first.agent()
    # `dev`, which would end with its control plane, does not notice.
    stop(dev.process.pid)
    kill(dev.control_plane())
    assert host.keys(push.user, push.key.fingerprint)
    kill(agent)
    dev.first.start_agent()
    again = eventually(lambda: answered(host, push, token), "the next agent serves")
    assert again[0].request == push.request_id


def answered(host, push, token, **options):
    try:
        return host.keys(push.user, **{"fingerprint": push.key.fingerprint, "token": token, **options})
    except Stopped:
        return None


def test_a_kept_key_whose_signature_is_wrong_voids_no_other(new_dev, new_key, tmp_path):
    """The scripts give up all keys of a user for one such entry. What an agent takes over from the one before is checked again."""
    dev = new_dev()
    altered, kept = dev.push(new_key()), dev.push(new_key())
    host = StockHost(metadata_url(dev.first), signer_ca(dev, tmp_path / "certs"), tmp_path)
    assert len(host.keys(kept.user)) == 2
    host.take_token(60)
    token = host.token
    file = dev.first.folder / "run/stock" / altered.request_id
    whole = bytearray(file.read_bytes())
    # The signature is what the frame ends with.
    whole[-7] ^= 1
    kill(dev.first.agent())
    file.write_bytes(whole)
    dev.first.start_agent()
    [provided] = eventually(lambda: answered(host, kept, token, fingerprint=None), "the next agent serves")
    assert provided.request == kept.request_id
    assert "a kept key is not shown any more" in (dev.first.folder / "agent.log").read_text()


def test_the_root_vouches_for_the_signers_name_alone(dev, authorities):
    """Machines trust it for everything."""
    printed = openssl("x509", "-noout", "-text", "-in", authorities / "Instance_Connect_signer_root.pem")
    [constraints] = re.findall(r"X509v3 Name Constraints: critical\n(.*?)\n +X509v3", printed + " X509v3", re.DOTALL)
    said = [line.strip() for line in constraints.splitlines()]
    name = f"DNS:managed-ssh-signer.{dev.region}.amazonaws.com"
    assert said[:2] == ["Permitted:", name] and said[2] == "Excluded:"
    assert {line.split("/")[0] for line in said[3:]} == {"IP:0.0.0.0", "IP:0:0:0:0:0:0:0:0"}


def test_tokens_are_needed_and_proxies_refused(dev, stock_host):
    """As `curl` sees it; each path, method and token state is a row in the table of `core::imds`."""
    base = stock_host.base + "/latest"

    def status(*arguments):
        return stock_host.curl("-o", "/dev/null", "-w", "%{http_code}", *arguments).stdout.decode()

    stock_host.take_token(60)
    good = ("-H", f"X-aws-ec2-metadata-token: {stock_host.token}")
    other = StockHost(metadata_url(dev.second), stock_host.authorities, stock_host.folder)
    other.take_token(60)
    of_another = ("-H", f"X-aws-ec2-metadata-token: {other.token}")
    rows = [
        ((f"{base}/meta-data/instance-id",), "401"),
        ((*good, f"{base}/meta-data/instance-id"), "200"),
        ((*good, "-I", f"{base}/meta-data/instance-id/"), "200"),
        ((*of_another, f"{base}/meta-data/instance-id"), "401"),
        (("-H", "X-aws-ec2-metadata-token: x", f"{base}/meta-data/instance-id"), "401"),
        ((*good, f"{base}/meta-data/iam/"), "404"),
        ((*good, "-X", "DELETE", f"{base}/meta-data/instance-id"), "405"),
        (("-X", "PUT", f"{base}/api/token"), "400"),
        (("-X", "PUT", "-H", f"{TTL}: 0", f"{base}/api/token"), "400"),
        (("-X", "PUT", "-H", f"{TTL}: 21601", f"{base}/api/token"), "400"),
        (("-X", "PUT", "-H", f"{TTL}: 21600", f"{base}/api/token"), "200"),
        (("-X", "PUT", "-H", f"{TTL}: 5", "-H", "X-Forwarded-For: 192.0.2.1", f"{base}/api/token"), "403"),
    ]
    for arguments, expected in rows:
        assert status(*arguments) == expected, arguments


def test_it_says_what_it_knows_of_the_instance(dev, stock_host):
    entry = dev.ready["instances"][0]
    stock_host.take_token(60)
    zone = entry["availability_zone"]
    values = {
        "meta-data/instance-id": dev.first.id,
        "meta-data/placement/availability-zone": zone,
        "meta-data/placement/region": dev.region,
        "meta-data/services/domain": "amazonaws.com",
        "meta-data/local-ipv4": entry["private_ip"],
        "meta-data/local-hostname": socket.gethostname(),
    }
    for path, value in values.items():
        assert stock_host.get(path) == stock_host.get(path + "/") == value
    document = json.loads(stock_host.get("dynamic/instance-identity/document"))
    assert (document["instanceId"], document["accountId"]) == (dev.first.id, dev.ready["account_id"])
    assert (document["region"], document["availabilityZone"]) == (dev.region, zone)
    listed = stock_host.get("meta-data/").split("\n")
    assert "managed-ssh-keys/" in listed and "instance-id" in listed


def test_whoever_holds_connections_keeps_no_login_waiting(dev, stock_host, new_key):
    push = dev.push(new_key())
    url = urlparse(stock_host.base)
    held = [socket.create_connection((url.hostname, url.port), timeout=5) for _ in range(200)]
    try:
        for connection in held[:100]:
            connection.sendall(b"GET /latest/meta-data/ HTTP/1.1\r\nX: ")
        assert stock_host.keys(push.user, push.key.fingerprint)
    finally:
        for connection in held:
            connection.close()


def rotate(dev, *options):
    config = dev.folder / "instance-connectd.toml"
    run(PROGRAMS / "instance-connectd", "rotate-stock-signer", "--config", config, *options)


def generations(dev):
    """Those whose chains the agents have been told of, as they log them; `None` while they have not been told the same."""
    logs = [(instance.folder / "agent.log").read_text() for instance in dev.instances]
    told = {re.findall(r"who signs for the metadata service generations=\[(.*)\]", log)[-1] for log in logs}
    return told.pop() if len(told) == 1 else None


def test_a_rotation_is_not_noticed_by_readers_and_a_revoked_signer_opens_nothing(new_dev, new_key, tmp_path):
    """Logins go on while one signer follows the other: each is given the key that was pushed before it."""
    dev = new_dev()
    certificates = signer_ca(dev, tmp_path / "certs")
    user, ended, given = dev.first.os_user, threading.Event(), []

    def logins():
        host = StockHost(metadata_url(dev.first), certificates, tmp_path / "scripts")
        while not ended.is_set():
            key = new_key()
            dev.push(key)
            given.append([provided.line for provided in host.keys(user, key.fingerprint)] == [key.public])

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        going = pool.submit(logins)
        eventually(lambda: len(given) > 2 or going.done(), "logins go on")
        rotate(dev)
        eventually(lambda: generations(dev) == "1, 2", "the agent is told")
        before = len(given)
        eventually(lambda: len(given) > before + 2 or going.done(), "logins go on")
        ended.set()
        going.result()
    assert len(given) >= 6 and all(given)

    # On the other machine nothing was live, so that who begins there now is shown the second signer.
    host = StockHost(metadata_url(dev.second), certificates, tmp_path / "other")
    push = dev.push(new_key(), dev.second)
    host.take_token(600)
    assert host.keys(user, push.key.fingerprint, token=host.token)
    # Who reads on with the token of a signer that is revoked hears that it is; who begins anew is not shown it.
    rotate(dev, "--revoke", "--force")
    eventually(lambda: generations(dev) == "2, 3", "the agents are told")
    with pytest.raises(Stopped, match="may be revoked") as stopped:
        host.keys(user, push.key.fingerprint, token=host.token)
    assert stopped.value.status == 1
    assert StockHost(host.base, certificates, tmp_path / "anew").keys(user) == []
    after = dev.push(new_key(), dev.second)
    assert StockHost(host.base, certificates, tmp_path / "after").keys(user, after.key.fingerprint)
    # And who has one of a signer that is not named any more has none.
    rotate(dev, "--force")
    eventually(lambda: generations(dev) == "3, 4", "the agents are told")
    with pytest.raises(Stopped) as stopped:
        host.keys(user, push.key.fingerprint, token=host.token)
    assert stopped.value.status == 22


HOUR = 60 * 60


def test_proofs_are_renewed_long_before_they_lapse(new_dev, new_key, tmp_path):
    """Nothing is restarted: everybody's clock goes on, and machines are told what is made anew."""
    clock = MovingClock(tmp_path / "clock")
    dev = new_dev(environment=clock.variables)
    host = StockHost(metadata_url(dev.first), signer_ca(dev, tmp_path / "certs"), tmp_path)
    name = f"managed-ssh-signer.{dev.region}.amazonaws.com"

    def login_at(hours):
        key = new_key()
        words = ["send-key", f"{dev.first.os_user}@{dev.first.id}", "--ssh-public-key", f"{key.file}.pub"]
        run(PROGRAMS / "instance-connect", *words, env={**dev.environment(), **clock.variables})
        host.ahead = hours * HOUR
        return [provided.line for provided in host.keys(dev.first.os_user, key.fingerprint)] == [key.public]

    def holds_at(hours, signer):
        """Whether the scripts take a signer that was read before for one that is not revoked."""
        host.ahead = hours * HOUR
        chain, staples = signer
        try:
            host.check_chain(chain, staples, staples.parent, name)
        except Stopped as stopped:
            assert (stopped.status, "status expired" in str(stopped).lower()) == (1, True), stopped
            return False
        return True

    def read(what):
        host.take_token()
        return host.take_signer(tmp_path / what)

    assert login_at(0)
    first = read("first")
    # They last 24 hours, and are renewed after a quarter of that.
    clock.move(7 * HOUR)
    attempts = itertools.count()
    renewed = eventually(lambda: (signer := read(f"renewed-{next(attempts)}")) and holds_at(25, signer) and signer, "proofs are renewed")
    assert renewed[0] == first[0]
    assert not holds_at(25, first) and holds_at(23, first)
    assert login_at(7)
