"""Every error by its real cause: a real request of a real SDK, what the service answers to it byte by byte, and the
exception that botocore, the SDK for JavaScript and the SDK for Go make of it.

Causes that no SDK can be brought to send (no signature, a body that is no JSON) are made on the way: the SDK speaks to a
relay, which spoils its request and hands it on. The run leaves the whole table in target/errors.md.

Three modelled errors have no row: SerialConsoleSessionLimitExceededException and -UnavailableException are in test_console.py,
where somebody has the line, and -UnsupportedException, of machines that have to be rebooted first, the service never answers."""

import http.client
import json
import re
import sqlite3
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sdks import SDKS
from system import PATIENCE, eventually
from test_admin import request
from wire import Request

TABLE = Path(__file__).parent.parent / "target/errors.md"
UNKNOWN_INSTANCE = "i-0fedcba9876543210"
MODELLED = {
    "AuthException",
    "EC2InstanceNotFoundException",
    "EC2InstanceStateInvalidException",
    "EC2InstanceTypeInvalidException",
    "EC2InstanceUnavailableException",
    "InvalidArgsException",
    "SerialConsoleAccessDisabledException",
    "ServiceException",
    "ThrottlingException",
}


class Relay:
    """Hands requests on to the service and its answers back, byte by byte, and keeps the last answer."""

    def __init__(self, endpoint_url):
        self.spoil = lambda request: None
        self.answer = None
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                request = Sent("POST", dict(self.headers), self.rfile.read(int(self.headers["Content-Length"])))
                relay.spoil(request)
                service = http.client.HTTPConnection(urlsplit(endpoint_url).netloc, timeout=PATIENCE)
                service.putrequest(request.method, "/", skip_host=True, skip_accept_encoding=True)
                for name, value in request.headers.items():
                    service.putheader(name, str(len(request.body)) if name.lower() == "content-length" else value)
                service.endheaders(request.body)
                answer = service.getresponse()
                headers, body = answer.getheaders(), answer.read()
                service.close()
                relay.answer = (answer.status, {name.lower(): value for name, value in headers}, body.decode())
                self.send_response_only(answer.status)
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint_url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@dataclass
class Sent:
    """A request on its way."""

    method: str
    headers: dict
    body: bytes


@dataclass
class Call:
    """What an SDK is to do, and what is to happen on the way."""

    operation: str
    parameters: dict
    caller: str = "admin"
    secret: str = None
    key_id: str = None
    spoil: object = lambda request: None
    # What has to be so meanwhile. The server notices it, and its end, a little later.
    while_: object = None


ROWS = []


def row(code, message, status=400, operation="SendSSHPublicKey"):
    """Adds a row: the function brings the cause about, from a call that is right."""

    def add(cause):
        ROWS.append(pytest.param(cause, operation, code, message, status, id=cause.__name__))
        return cause

    return add


# Modelled errors. `message` is a pattern.


@row("AuthException", "The account or the user of these credentials is suspended\\.")
def user_suspended(setting, call):
    call.caller = "limited"
    call.while_ = setting.changed("users", "status", "suspended", "name = 'limited'")


@row("AuthException", "The account or the user of these credentials is suspended\\.")
def account_suspended(setting, call):
    call.while_ = setting.changed("accounts", "status", "suspended", f"id = '{setting.dev.ready['account_id']}'")


@row("AuthException", "The instance does not allow access to this OS user\\.")
def os_user_refused_by_the_machine(setting, call):
    # No host.toml allows uid 0, so the machine refuses it.
    call.parameters["InstanceOSUser"] = "root"


@row("EC2InstanceNotFoundException", f"The instance {UNKNOWN_INSTANCE} was not found\\.")
def instance_unknown(setting, call):
    call.parameters["InstanceId"] = UNKNOWN_INSTANCE


@row("EC2InstanceNotFoundException", "The instance i-[0-9a-f]{17} was not found\\.")
def instance_in_another_zone(setting, call):
    call.parameters["AvailabilityZone"] = f"{setting.dev.region}b"


@row("EC2InstanceStateInvalidException", "The instance must be running to connect to it; it is stopped\\.")
def instance_stopped(setting, call):
    call.while_ = setting.changed("instances", "state", "stopped", f"id = '{setting.dev.first.id}'")


@row("EC2InstanceUnavailableException", "The instance did not confirm the key in time\\. Wait a moment and push again\\.")
def agent_away(setting, call):
    call.parameters["InstanceId"] = setting.without_machine


@row("InvalidArgsException", "1 validation error detected: Value 'i-XYZ4567890' at 'instanceId' failed to satisfy .*")
def instance_id_malformed(setting, call):
    call.parameters["InstanceId"] = "i-XYZ4567890"


@row(
    "InvalidArgsException",
    "Invalid input parameter received for Illegal argument exception: SSH Public key is invalid",
)
def key_of_a_fido_token(setting, call):
    call.parameters["SSHPublicKey"] = FIDO_KEY


@row("ServiceException", "The service could not complete the request\\. .*", status=500)
def store_not_readable(setting, call):
    call.while_ = setting.store_broken()


@row(
    "SerialConsoleAccessDisabledException",
    "Serial console access is not enabled for this account\\.",
    operation="SendSerialConsoleSSHPublicKey",
)
def serial_console_switched_off(setting, call):
    del call.parameters["InstanceOSUser"]


@row(
    "EC2InstanceTypeInvalidException",
    "The instance has no serial console\\.",
    operation="SendSerialConsoleSSHPublicKey",
)
def serial_console_without_a_line(setting, call):
    del call.parameters["InstanceOSUser"]
    account, zone = setting.dev.ready["account_id"], setting.dev.ready["instances"][0]["availability_zone"]
    # Nobody answers for it, so nobody owns a line of it.
    made = request(setting.dev, "CreateInstance", {"AvailabilityZone": zone}).send()
    call.parameters["InstanceId"] = json.loads(made.body)["Instance"]["InstanceId"]
    call.while_ = setting.changed("accounts", "serial_console_access", 1, f"id = '{account}'")


# Errors of the framework.


@row("AccessDeniedException", "User: arn:aws:iam::.* is not authorized to perform: .* because no identity-based .*")
def not_allowed(setting, call):
    call.caller = "limited"
    call.parameters["InstanceId"] = setting.dev.second.id


@row("UnrecognizedClientException", "The security token included in the request is invalid\\.")
def access_key_unknown(setting, call):
    call.key_id = "AKIAAAAAAAAAAAAAAAAA"


@row("InvalidSignatureException", "The request signature we calculated does not match .*")
def secret_wrong(setting, call):
    call.secret = "not the secret"


@row("InvalidSignatureException", "The request signature we calculated does not match .*")
def body_changed_on_the_way(setting, call):
    def spoil(request):
        request.body += b" "

    call.spoil = spoil


@row("MissingAuthenticationTokenException", "Request is missing Authentication Token")
def signature_lost_on_the_way(setting, call):
    call.spoil = lambda request: remove(request.headers, "authorization")


@row("IncompleteSignatureException", "Authorization header requires 'Signature' parameter\\. .*")
def signature_cut_on_the_way(setting, call):
    def spoil(request):
        name, value = remove(request.headers, "authorization")
        request.headers[name] = value.partition(", Signature=")[0]

    call.spoil = spoil


@row("MalformedHttpRequestException", "The 'transfer-encoding' header is not supported\\. .*")
def transfer_encoding_added_on_the_way(setting, call):
    def spoil(request):
        request.headers["transfer-encoding"] = "chunked"

    call.spoil = spoil


@row("SerializationException", None)
def body_no_json(setting, call):
    def spoil(request):
        request.body = request.body[:-1]

    call.spoil = spoil


@row("UnknownOperationException", None)
def operation_unknown(setting, call):
    def spoil(request):
        name, value = remove(request.headers, "x-amz-target")
        request.headers[name] = value + "s"

    call.spoil = spoil


@row("RequestEntityTooLargeException", "Request entity is too large\\.", status=413)
def body_of_more_than_64_kib(setting, call):
    call.parameters["SSHPublicKey"] = "x" * 65536


# Last, because it uses up what this caller may do.


@row("ThrottlingException", "Server is busy! Please retry after a moment\\.")
def more_than_one_principal_may(setting, call):
    call.caller = "limited"
    call.while_ = setting.busy("limited")


def remove(headers, name):
    """Takes a header out, whatever the case of its name."""
    found = next(known for known in headers if known.lower() == name)
    return found, headers.pop(found)


FIDO_KEY = (
    "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp"
    "AAAABHNzaDo= token"
)


# Rates that only somebody who asks all the time meets.
GENEROUS = ["--throttle-instance", "1000/1000", "--throttle-unauthenticated", "1000/1000"]


class Setting:
    """A `dev` whose inventory the rows change. There is no administration yet to do it with, so rows of its tables are
    written as the store writes them."""

    def __init__(self, dev):
        self.dev = dev
        self.relay = Relay(dev.endpoint_url)
        self.database = dev.folder / "data/inventory.sqlite"
        known = {instance.id for instance in dev.instances}
        (self.without_machine,) = [id for (id,) in self.ask("SELECT id FROM instances") if id not in known]

    def ask(self, query):
        database = sqlite3.connect(self.database)
        with database:
            answer = database.execute(query).fetchall()
        database.close()
        return answer

    @contextmanager
    def changed(self, table, column, value, where):
        (before,) = {row[0] for row in self.ask(f"SELECT {column} FROM {table} WHERE {where}")}
        self.change(f"UPDATE {table} SET {column} = '{value}' WHERE {where}")
        try:
            yield
        finally:
            self.change(f"UPDATE {table} SET {column} = '{before}' WHERE {where}")

    def change(self, statement):
        database = sqlite3.connect(self.database)
        with database:
            database.execute(statement)
            database.execute("UPDATE sequence SET value = value + 1")
        database.close()

    @contextmanager
    def busy(self, caller):
        """Somebody with the same credentials asks all the time."""
        done = threading.Event()

        def ask():
            request = Request(self.dev, "SendSSHPublicKey", {}, caller=caller)
            connection = request.connection()
            while not done.is_set():
                request.time = datetime.now(timezone.utc)
                request.send(connection)
            connection.close()

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            yield
        finally:
            done.set()
            asking.join()

    @contextmanager
    def store_broken(self):
        self.ask("ALTER TABLE sequence RENAME TO lost")
        try:
            yield
        finally:
            self.ask("ALTER TABLE lost RENAME TO sequence")


@pytest.fixture(scope="module")
def setting(tmp_path_factory, os_user):
    from dev import Dev

    dev = Dev(tmp_path_factory.mktemp("dev"), os_user, arguments=["--instances-without-machine", "1", "--throttle", *GENEROUS])
    setting = Setting(dev)
    yield setting
    setting.relay.close()
    dev.close()


@pytest.fixture(scope="module")
def table():
    lines = ["| error | cause | operation | status | botocore | JavaScript | Go | body |", "|---" * 8 + "|"]
    yield lines
    TABLE.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("cause, operation, code, message, status", ROWS)
def test_error(setting, table, new_key, cause, operation, code, message, status):
    dev, relay = setting.dev, setting.relay
    parameters = {"InstanceId": dev.first.id, "InstanceOSUser": dev.first.os_user, "SSHPublicKey": new_key().public}
    call = Call(operation, dict(parameters))
    cause(setting, call)
    environment = {**dev.environment(call.caller), "AWS_ENDPOINT_URL": relay.endpoint_url}
    environment.update({"AWS_SECRET_ACCESS_KEY": call.secret} if call.secret else {})
    environment.update({"AWS_ACCESS_KEY_ID": call.key_id} if call.key_id else {})
    relay.spoil = call.spoil

    def outcome_of(sdk):
        return sdk(environment, call.operation, call.parameters)

    def is_expected(outcome):
        return outcome.code == code and re.fullmatch(message or ".*", outcome.message)

    def expected_from(sdk):
        outcome = outcome_of(sdk)
        return outcome if is_expected(outcome) else None

    def is_over():
        return Request(dev, "SendSSHPublicKey", parameters, caller=call.caller).send().status == 200

    classes = []
    with call.while_ or nullcontext():
        for name, sdk in SDKS.items():
            if call.while_:
                # Until the server has read what was changed, or when what is used up has just come back.
                outcome = eventually(lambda: expected_from(sdk), f"{name} is answered {code}")
            else:
                outcome = outcome_of(sdk)
                assert is_expected(outcome), (name, outcome)
            got_status, headers, body = relay.answer
            assert (got_status, outcome.status) == (status, status), (name, outcome)
            assert outcome.error_class == expected_class(name, code), (name, outcome)
            assert headers["x-amzn-errortype"] == code and headers["content-type"] == "application/x-amz-json-1.1"
            assert outcome.header_request_id == headers["x-amzn-requestid"]
            assert int(headers["content-length"]) == len(body.encode()) and "date" in headers
            classes.append(outcome.error_class)
    if call.while_:
        # The next row gets one answer to each call, which must not be this one's.
        eventually(is_over, f"a push is answered again after {cause.__name__}")
    cells = [code, cause.__name__.replace("_", " "), call.operation, status, *classes, f"`{body}`"]
    table.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")


def expected_class(sdk, code):
    """Modelled errors have a class of their own in each SDK; others come as the service's or the SDK's general one."""
    if sdk == "botocore":
        return code if code in MODELLED else "ClientError"
    if sdk == "Go":
        return f"*types.{code}" if code in MODELLED else "*smithy.GenericAPIError"
    return code if code in MODELLED else "EC2InstanceConnectServiceException"
