"""The fixtures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from .dev import Dev


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "arguments of instance-connectd dev, such as: --instances 1 --key-types rsa,ed25519,ecdsa"
    parser.addini("instance_connect_arguments", help, type="args", default=[])


@pytest.fixture(scope="session")
def instance_connect_dev(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dev]:
    """One `instance-connectd dev` for all tests of the run."""
    arguments = pytestconfig.getini("instance_connect_arguments")
    dev = Dev(tmp_path_factory.mktemp("instance-connect"), *arguments)
    yield dev
    dev.close()


@pytest.fixture
def instance_connect(instance_connect_dev: Dev, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dev]:
    """A whole Instance Connect, to which the AWS variables point while the test runs. Faults end with the test; calls seen are
    its own."""
    for name in list(os.environ):
        # These would be preferred to what is set below.
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in instance_connect_dev.environment().items():
        monkeypatch.setenv(name, value)
    if "boto3" in sys.modules:
        # The session behind `boto3.client(...)` keeps what it has once found.
        monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    instance_connect_dev.reset()
    yield instance_connect_dev
    instance_connect_dev.reset()
