"""Requests to the API, signed by hand, so that each part can be wrong on its own."""

import hashlib
import hmac
import http.client
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from urllib.parse import quote, urlencode

from system import PATIENCE

SERVICE = "ec2-instance-connect"
CONTENT_TYPE = "application/x-amz-json-1.1"
ALGORITHM = "AWS4-HMAC-SHA256"


def stamp(time):
    """A time as SigV4 writes it."""
    return time.strftime("%Y%m%dT%H%M%SZ")


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


@dataclass
class Request:
    """A request that is right until something in it is changed."""

    dev: object
    operation: str
    parameters: dict
    caller: str = "admin"
    method: str = "POST"
    query: str = ""
    # From the path and query that would be right to the target that is sent.
    target_form: object = lambda path: path
    body: bytes = None
    signed_body: bytes = None
    target: str = None
    content_type: str = CONTENT_TYPE
    time: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    region: str = None
    service: str = SERVICE
    key_id: str = None
    secret: str = None
    # Signed like the other headers.
    more_headers: dict = field(default_factory=dict)
    # Sent, and not signed: names and values.
    unsigned_headers: list = field(default_factory=list)
    # Signed in the query instead of the header, with these parameters besides those that it must have.
    presigned: dict = None
    # From the query that would be right to the one that is sent.
    signed_query: object = lambda right: right
    # From the names that are to be signed to those that are, in their order.
    order: object = sorted
    # From the header that would be right to the one that is sent; `None` leaves it out.
    authorization: object = lambda right: right

    def later(self, **time):
        self.time += timedelta(**time)

    def send(self, connection=None):
        """Sends it, over a connection of its own unless one is given, and gives the answer."""
        connection = connection or self.connection()
        self.ask(connection)
        answer = connection.getresponse()
        return Answer(answer.status, dict((name.lower(), value) for name, value in answer.getheaders()), answer.read())

    def ask(self, connection):
        """Sends it and leaves the answer to the caller."""
        query, headers = self.sign(connection)
        connection.putrequest(
            self.method,
            self.target_form(f"/?{query}" if query else "/"),
            skip_host=True,
            skip_accept_encoding=True,
        )
        for name, value in headers:
            connection.putheader(name, value)
        connection.putheader("content-length", len(self.content))
        connection.endheaders(self.content)

    def connection(self, source="127.0.0.1"):
        return http.client.HTTPConnection(self.dev.address, timeout=PATIENCE, source_address=(source, 0))

    def wire(self):
        """Its bytes, for whoever sends them in an unusual way."""
        sent = bytearray()
        connection = self.connection()
        connection.sock = type("Sink", (), {"sendall": staticmethod(sent.extend)})
        self.ask(connection)
        return bytes(sent)

    @property
    def content(self):
        return json.dumps(self.parameters).encode() if self.body is None else self.body

    def sign(self, connection):
        """The query and the headers to send."""
        headers = {
            "content-type": self.content_type,
            "host": f"{connection.host}:{connection.port}",
            "x-amz-target": self.target or f"AWSEC2InstanceConnectService.{self.operation}",
            **({} if self.presigned is not None else {"x-amz-date": stamp(self.time)}),
            **self.more_headers,
        }
        names = self.order(headers)
        scope = f"{stamp(self.time)[:8]}/{self.region or self.dev.region}/{self.service}/aws4_request"
        credential = f"{self.key_id or self.dev.ready[self.caller]['access_key_id']}/{scope}"
        if self.presigned is None:
            signature = self.signature(self.query, headers, names, scope)
            right = f"{ALGORITHM} Credential={credential}, SignedHeaders={';'.join(names)}, Signature={signature}"
            authorization = self.authorization(right)
            added = [] if authorization is None else [("authorization", authorization)]
            return self.query, [*headers.items(), *self.unsigned_headers, *added]
        parameters = {
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": credential,
            "X-Amz-Date": stamp(self.time),
            "X-Amz-SignedHeaders": ";".join(names),
            **self.presigned,
        }
        query = urlencode(sorted(parameters.items()), quote_via=quote, safe="")
        signature = self.signature(query, headers, names, scope)
        return self.signed_query(f"{query}&X-Amz-Signature={signature}"), [*headers.items(), *self.unsigned_headers]

    def signature(self, query, headers, names, scope):
        signed_body = self.content if self.signed_body is None else self.signed_body
        canonical = "\n".join(
            [self.method, "/", query]
            + [f"{name}:{headers[name]}" for name in names]
            + ["", ";".join(names), hashlib.sha256(signed_body).hexdigest()]
        )
        key = ("AWS4" + (self.secret or self.dev.ready[self.caller]["secret_access_key"])).encode()
        for part in scope.split("/"):
            key = _hmac(key, part)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        return _hmac(key, f"{ALGORITHM}\n{stamp(self.time)}\n{scope}\n{digest}").hex()


@dataclass
class Answer:
    """An answer of the API."""

    status: int
    headers: dict
    body: bytes
