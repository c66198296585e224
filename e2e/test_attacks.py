"""Whoever does not mean well, and a good client beside them whose pushes succeed all the while.

How long each wait lasts is tested with a clock of its own in `crates/server/src/connections`; what an attack costs the good client
is measured by `bench/attack`.
"""

import contextlib
import select
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from system import PATIENCE, eventually
from test_wire import OPERATIONS, bad_signature, unknown_operation
from wire import Request

# The limits of one source, as docs/limits.md says.
CONNECTIONS, HEAD_BYTES = 512, 32 * 1024

ATTACKER = "127.0.0.2"


def request(dev, key):
    return Request(dev, "SendSSHPublicKey", OPERATIONS["SendSSHPublicKey"](dev, key))


@pytest.fixture
def succeeds(dev, new_key):
    """A push over a new connection of a source."""
    key = new_key()
    return lambda source="127.0.0.1": request(dev, key).send(request(dev, key).connection(source)).status == 200


@pytest.fixture
def attack(dev):
    """Opens connections from the attacker's address, and closes them at the end."""
    host = urlsplit(dev.endpoint_url)
    with contextlib.ExitStack() as connections:

        def connect(first_bytes=b""):
            connection = socket.create_connection((host.hostname, host.port), PATIENCE, (ATTACKER, 0))
            connections.callback(connection.close)
            with contextlib.suppress(ConnectionError):
                connection.sendall(first_bytes)
            return connection

        yield connect


def is_closed(connection):
    """Whether the server has closed it, without waiting for that."""
    if not select.select([connection], [], [], 0)[0]:
        return False
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except ConnectionError:
        return True


def is_reset(connection):
    """Whether nothing can be sent any more, without reading what was answered."""
    try:
        connection.send(b"x")
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return False


def read_to_end(connection):
    answer = b""
    with contextlib.suppress(ConnectionError):
        while received := connection.recv(65536):
            answer += received
    return answer


def sockets_of(process):
    return sum(1 for file in Path(f"/proc/{process.pid}/fd").iterdir() if "socket" in read_link(file))


def read_link(file):
    """What a descriptor is, empty once it has been closed."""
    try:
        return str(file.readlink())
    except OSError:
        return ""


IDLE = b""
IN_A_HEAD = b"POST / HTTP/1.1\r\nhost: a\r\nx-slow: "
IN_A_BODY = b"POST / HTTP/1.1\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: 1000\r\n\r\n{"


@pytest.mark.parametrize("sent", [IDLE, IN_A_HEAD, IN_A_BODY], ids=["idle", "in a head", "in a body"])
def test_connections_that_stay_where_they_are(dev, attack, succeeds, sent):
    before = sockets_of(dev.process)
    connections = [attack(sent) for _ in range(CONNECTIONS + 100)]
    assert succeeds() and succeeds(ATTACKER)
    eventually(lambda: sum(map(is_closed, connections)) >= 100, "the first of them are closed")
    # A few others of this process come and go.
    assert sockets_of(dev.process) <= before + CONNECTIONS + 20


def test_requests_sent_at_once_are_answered_in_order(dev, attack, succeeds, new_key):
    """Each by its own answer. Whoever sends them reads nothing until all are sent."""
    key, kinds = new_key(), [None, unknown_operation, bad_signature]
    names = {None: b"", unknown_operation: b"UnknownOperationException", bad_signature: b"InvalidSignatureException"}
    sent, expected = b"", []
    for number in range(60):
        one, change = request(dev, key), kinds[number * number % 3 + number % 2]
        if change:
            change(one)
        if number == 59:
            one.unsigned_headers.append(("connection", "close"))
        sent += one.wire()
        expected.append(names[change])
    connection = attack(sent)
    assert succeeds()
    answers = read_to_end(connection)
    got = [answer.partition(b"x-amzn-errortype: ")[2].partition(b"\r\n")[0] for answer in answers.split(b"HTTP/1.1 ")[1:]]
    assert got == expected


def test_heads_that_are_too_large(attack, succeeds):
    many = b"".join(b"h%d: 1\r\n" % number for number in range(1000))
    for bomb in [
        b"POST / HTTP/1.1\r\n" + many + b"\r\n",
        b"POST / HTTP/1.1\r\nh: " + b"x" * 10 * HEAD_BYTES,
        b"POST /" + b"x" * 10 * HEAD_BYTES,
        b"\r\n" * HEAD_BYTES,
    ]:
        connections = [attack(bomb) for _ in range(20)]
        assert succeeds()
        for connection in connections:
            assert read_to_end(connection).startswith(b"HTTP/1.1 431 ")


def test_clients_that_do_not_read(dev, attack, succeeds):
    """They send as much as is taken of them, and read nothing of what is answered."""
    connections = [attack() for _ in range(20)]
    requests = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 1000
    for connection in connections:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            for _ in range(100):
                connection.send(requests)
        assert succeeds()
    # What the kernel still takes of them is read by nobody: they are closed when their time is over.
    eventually(lambda: all(map(is_reset, connections)), "those who do not read are closed")


def test_a_source_that_sends_what_nobody_signed_is_not_listened_to(new_dev, new_key):
    dev = new_dev(arguments=["--throttle", "--throttle-unauthenticated", "1/5"])
    key, codes = new_key(), []
    while "ThrottlingException" not in codes and len(codes) < 100:
        bogus = request(dev, key)
        bad_signature(bogus)
        codes.append(bogus.send(bogus.connection(ATTACKER)).headers["x-amzn-errortype"])
    assert set(codes[:5]) == set(codes[:-1]) == {"InvalidSignatureException"}
    assert codes[-1] == "ThrottlingException"
    assert request(dev, key).send().status == 200
    # Until its time has passed.
    eventually(lambda: request(dev, key).send(bogus.connection(ATTACKER)).status == 200, "it is listened to again")


def test_throttled_as_the_service_throttles(new_dev, new_key):
    dev = new_dev(arguments=["--throttle", "--throttle-principal", "1/3"])
    client, key = dev.client(), new_key()

    def push():
        client.send_ssh_public_key(
            InstanceId=dev.first.id, InstanceOSUser=dev.first.os_user, SSHPublicKey=key.public
        )

    for _ in range(3):
        push()
    with pytest.raises(client.exceptions.ThrottlingException) as raised:
        for _ in range(10):
            push()
    assert raised.value.response["Error"]["Message"] == "Server is busy! Please retry after a moment."
    request_id = raised.value.response["ResponseMetadata"]["RequestId"]
    (record,) = eventually(lambda: dev.audit(request_id), "the first that is throttled is on record")
    assert (record["errorCode"], record["userIdentity"]["userName"]) == ("ThrottlingException", "admin")
    # An SDK that retries comes through.
    assert dev.push(key, caller="limited").login().succeeded


def test_one_instance_is_throttled_for_itself(new_dev, new_key):
    dev = new_dev(arguments=["--throttle", "--throttle-instance", "1/1"])
    client, key = dev.client(), new_key()

    def push():
        client.send_ssh_public_key(
            InstanceId=dev.first.id, InstanceOSUser=dev.first.os_user, SSHPublicKey=key.public
        )

    push()
    with pytest.raises(client.exceptions.ThrottlingException):
        for _ in range(10):
            push()
    assert dev.push(key, dev.second).login().succeeded


def test_nobody_is_throttled_unless_it_is_asked_for(dev, new_key):
    key = new_key()
    connection = request(dev, key).connection()
    assert all(request(dev, key).send(connection).status == 200 for _ in range(150))
    connection.close()
