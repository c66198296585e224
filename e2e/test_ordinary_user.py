"""`dev` needs no root: an ordinary user runs all of it and logs in as themselves."""

import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from dev import PROGRAMS, Dev
from system import eventually, processes_naming, root_only


@pytest.fixture
def home(accounts):
    """A folder of the second account, with our programs in it: it may not be able to get at those that were built."""
    folder = Path(tempfile.mkdtemp(prefix="ic-e2e-"))
    for name in ("connectd", "connect-agent", "connect-authorized-keys", "connect-console"):
        shutil.copy(PROGRAMS / f"instance-{name}", folder)
    shutil.chown(folder, accounts[1].name)
    yield folder
    shutil.rmtree(folder)


@root_only
def test_an_ordinary_user_runs_it_and_logs_in(home, accounts, new_key, monkeypatch):
    ordinary = accounts[1]
    monkeypatch.setattr("dev.PROGRAMS", home)
    monkeypatch.chdir(home)
    dev = Dev(home, before=ordinary.as_user(), environment={"HOME": str(home), "USER": ordinary.name})
    try:
        assert [instance.os_user for instance in dev.instances] == [ordinary.name] * 2
        assert dev.folder.stat().st_uid == int(ordinary.id)
        push = dev.push(new_key())
        assert push.login().succeeded
        assert dev.second.login(push.key).refused
        assert dev.first.login(new_key()).refused
        assert dev.end(signal.SIGTERM) == 0
        eventually(lambda: not dev.folder.exists() and not processes_naming(str(dev.folder)), "nothing stays")
    finally:
        dev.close()


@root_only
def test_an_ordinary_user_cannot_open_another_account(home, accounts, monkeypatch):
    monkeypatch.setattr("dev.PROGRAMS", home)
    monkeypatch.chdir(home)
    with pytest.raises(AssertionError, match="only root can open other accounts than its own"):
        Dev(home, os_user=accounts[0].name, before=accounts[1].as_user(), environment={"HOME": str(home)})
