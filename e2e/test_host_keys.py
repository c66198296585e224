"""Host keys: what a machine's agent reports is what `instance-connect ssh` trusts, until it changes."""

import json

import pytest

from dev import Key
from system import eventually, kill
from test_admin import administrator


@pytest.fixture
def broken(new_dev):
    """A `dev` whose machines' host keys may be changed."""
    return new_dev()


def log_in(admin, instance, **options):
    """`instance-connect ssh` without a ready file or known hosts: only the service knows the host key."""
    target = f"{instance.os_user}@{instance.id}"
    return admin("ssh", target, "--host", instance.host, "--port", instance.port, "--", "true", **options)


def credentials(dev, caller):
    return {"AccessKeyId": dev.ready[caller]["access_key_id"], "SecretAccessKey": dev.ready[caller]["secret_access_key"]}


def show(admin, instance):
    return admin.ask("instance", "show", instance.id)["Instances"][0]


def change_host_key(instance, key=None):
    """The machine gets another host key, or somebody's, and its agent is started again."""
    file = instance.folder / "ssh/ssh_host_ed25519_key"
    for name in (file, file.with_suffix(".pub")):
        name.unlink(missing_ok=True)
    if key is None:
        Key(file)
    else:
        file.with_suffix(".pub").write_text(key + "\n")
    kill(instance.agent())
    instance.start_agent()


def reports(dev):
    records = map(json.loads, dev.audit_lines())
    return [record for record in records if record["eventName"] == "ReportHostKeys"]


def test_the_service_tells_the_host_key_that_the_agent_reported(dev):
    admin = administrator(dev)
    known = [line.split(" ", 1)[1] for line in open(dev.first.known_hosts) if line.startswith(dev.first.id)]
    assert [key["PublicKey"] for key in show(admin, dev.first)["HostKeys"]] == [known[0].strip()]
    log_in(admin, dev.first)
    # And to whoever may push, no more than that.
    limited = credentials(dev, "limited")
    log_in(admin, dev.first, key=limited)
    assert "is not authorized" in admin("instance", "show", dev.first.id, key=limited, status=254).stderr


def test_a_changed_host_key_is_refused_until_it_is_accepted(broken):
    admin, instance = administrator(broken), broken.first
    log_in(admin, instance)
    pinned = show(admin, instance)["HostKeys"]
    change_host_key(instance)
    eventually(lambda: show(admin, instance)["PendingHostKeys"], "the agent has reported its new key")
    [record] = [record for record in reports(broken) if not record["responseElements"]["pinned"]]
    assert record["requestParameters"]["instanceId"] == instance.id
    refused = log_in(admin, instance, status=255).stderr
    assert f"warning: {instance.id} reports other host keys than are accepted" in refused
    assert "Host key verification failed" in refused
    assert f"instance-connect instance set {instance.id} --accept-host-keys" in refused.splitlines()[-1]
    assert show(admin, instance)["HostKeys"] == pinned

    # Nobody accepts by accident: there is no terminal here.
    accept = ("instance", "set", instance.id, "--accept-host-keys")
    assert "say so with --yes" in admin(*accept, status=252).stderr
    limited = credentials(broken, "limited")
    admin(*accept, "--yes", key=limited, status=254)
    assert f"instance {instance.id} has the new host keys" in admin(*accept, "--yes").stdout
    log_in(admin, instance)
    assert "has no host keys that wait" in admin(*accept, "--yes", status=252).stderr


def test_an_agent_that_claims_another_machines_host_key_is_not_believed(broken):
    admin, liar, victim = administrator(broken), broken.second, broken.first
    stolen = show(admin, victim)["HostKeys"][0]
    change_host_key(liar, stolen["PublicKey"])
    eventually(lambda: show(admin, liar)["PendingHostKeys"] == [stolen], "the claim is seen")
    record = reports(broken)[-1]
    assert (record["errorCode"], record["errorMessage"]) == ("HostKeyInUse", f"a host key of {victim.id}")
    refused = admin("instance", "set", liar.id, "--accept-host-keys", "--yes", status=254).stderr
    assert f"One of the host keys is that of {victim.id}" in refused
    log_in(admin, victim)


def test_a_host_key_that_another_machine_has_claimed_first_is_taken_from_it_by_name(broken):
    admin, liar, rightful = administrator(broken), broken.second, broken.first
    change_host_key(rightful)
    [key] = eventually(lambda: show(admin, rightful)["PendingHostKeys"], "the agent has reported its new key")
    # Somebody accepts what the liar says before anybody has looked at the rightful machine.
    change_host_key(liar, key["PublicKey"])
    eventually(lambda: show(admin, liar)["PendingHostKeys"] == [key], "the claim is seen")
    accept = ("--accept-host-keys", "--yes")
    admin("instance", "set", liar.id, *accept)
    refused = admin("instance", "set", rightful.id, *accept, status=254).stderr
    assert f"One of the host keys is that of {liar.id}" in refused and f"take it from {liar.id}" in refused
    assert show(admin, liar)["HostKeys"] == [key]

    done = admin("instance", "set", rightful.id, *accept, "--take-from", liar.id).stdout
    assert f"instance {rightful.id} has the new host keys; those of them that {liar.id} had are taken from it" in done
    log_in(admin, rightful)
    records = [json.loads(line) for line in broken.audit_lines()]
    record = [record for record in records if record["eventName"] == "AcceptHostKeys"][-1]
    taken = {"instanceId": liar.id, "fingerprints": [key["Fingerprint"]]}
    assert (record["requestParameters"]["takeFrom"], record["responseElements"]["taken"]) == (liar.id, taken)
    # Nobody takes the liar for that machine, and whoever wants to log in there is told why not.
    assert show(admin, liar)["PendingHostKeys"] == [key]
    refused = log_in(admin, liar, status=255).stderr
    assert "is in use by another instance" in refused.splitlines()[-1] and rightful.id not in refused
    assert f"One of the host keys is that of {rightful.id}" in admin("instance", "set", liar.id, *accept, status=254).stderr
    # Nor is it believed the next time, until somebody has looked.
    change_host_key(liar)
    eventually(lambda: show(admin, liar)["PendingHostKeys"] != [key], "the agent has reported its new key")
    assert not reports(broken)[-1]["responseElements"]["pinned"]
    log_in(admin, liar, status=255)
    admin("instance", "set", liar.id, *accept)
    log_in(admin, liar)
