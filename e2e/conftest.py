"""End-to-end tests: unmodified clients in front, the system's own OpenSSH behind, our real programs in between.

Run by `./test e2e`. As root, two throwaway accounts are made for the run and removed at its end.
"""

import itertools
import os

import pytest

# The caller's own credentials, proxies, keys and collectors have no part in this.
for _name in list(os.environ):
    if _name.startswith(("AWS_", "OTEL_")) or _name.lower().endswith("_proxy") or _name in ("SSH_AUTH_SOCK", "RUST_LOG"):
        del os.environ[_name]
os.environ.update(
    AWS_CONFIG_FILE="/dev/null",
    AWS_SHARED_CREDENTIALS_FILE="/dev/null",
    AWS_EC2_METADATA_DISABLED="true",
    PATH=os.environ["PATH"] + ":/usr/sbin:/sbin",
)

from dev import Dev, Key  # noqa: E402 - they are to find the variables as set above
from system import ROOT, Account  # noqa: E402


def pytest_report_header():
    if ROOT:
        return "as root: two throwaway accounts (useradd) are made for the run and removed at its end"
    return "as an ordinary user: the tests that only root can run are SKIPPED, and named at the end"


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="session")
def accounts():
    """The accounts that logins open: two as root, else our own alone."""
    if not ROOT:
        yield [None]
        return
    made = []
    try:
        for letter in "ab":
            made.append(Account(f"ic-e2e-{os.getpid()}{letter}"))
        yield made
    finally:
        for account in made:
            account.remove()


@pytest.fixture(scope="session")
def os_user(accounts):
    """The user of the instances; `None` leaves it to dev, which takes the invoking one."""
    return accounts[0] and accounts[0].name


@pytest.fixture(scope="session")
def other_user(accounts):
    """Another account of this machine."""
    return accounts[1].name


@pytest.fixture(scope="session")
def dev(tmp_path_factory, os_user):
    """A `dev` for all tests that leave it as they found it."""
    dev = Dev(tmp_path_factory.mktemp("dev"), os_user)
    yield dev
    dev.close()


@pytest.fixture
def new_dev(tmp_path_factory, os_user):
    """Starts a `dev` for one test that breaks it."""
    devs = []

    def start(**options):
        devs.append(Dev(tmp_path_factory.mktemp("dev"), **{"os_user": os_user, **options}))
        return devs[-1]

    yield start
    for dev in devs:
        dev.close()


@pytest.fixture(scope="session")
def new_key(tmp_path_factory):
    """Makes key pairs: `new_key()`, `new_key("rsa-3072")`."""
    folder, number = tmp_path_factory.mktemp("keys"), itertools.count()
    return lambda kind="ed25519": Key(folder / f"key-{next(number)}", kind)


@pytest.fixture(scope="session", autouse=True)
def pushed_first(request):
    """A push made before any test, and the login with it: for the one test that waits out a real minute at the end of
    the run. Not made where that test does not run."""
    if not any(item.get_closest_marker("last") for item in request.session.items):
        return None
    dev, new_key = request.getfixturevalue("dev"), request.getfixturevalue("new_key")
    push = dev.push(new_key())
    return push, push.login()
