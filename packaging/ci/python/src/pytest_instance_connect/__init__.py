"""A whole EC2 Instance Connect on this machine, for tests of tools that use one."""

from .dev import Call, Credentials, Dev, DevError, Fault, Instance

__all__ = ["Call", "Credentials", "Dev", "DevError", "Fault", "Instance"]
