"""Requests to the API, signed by hand, so that each part can be wrong on its own."""

import hashlib
import hmac
import http.client
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from system import PATIENCE

SERVICE = "ec2-instance-connect"
CONTENT_TYPE = "application/x-amz-json-1.1"


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
    # Sent, and not signed.
    unsigned_headers: dict = field(default_factory=dict)
    # From the names that are to be signed to those that are, in their order.
    order: object = sorted
    # From the header that would be right to the one that is sent; `None` leaves it out.
    authorization: object = lambda right: right

    def later(self, **time):
        self.time += timedelta(**time)

    def send(self, connection=None):
        """Sends it, over a connection of its own unless one is given, and gives the answer."""
        connection = connection or self.connection()
        connection.request(self.method, self.path, body=self.content, headers=self.headers(connection))
        answer = connection.getresponse()
        return Answer(answer.status, dict((name.lower(), value) for name, value in answer.getheaders()), answer.read())

    def connection(self):
        return http.client.HTTPConnection(self.dev.address, timeout=PATIENCE)

    @property
    def path(self):
        return f"/?{self.query}" if self.query else "/"

    @property
    def content(self):
        return json.dumps(self.parameters).encode() if self.body is None else self.body

    def headers(self, connection):
        target = self.target or f"AWSEC2InstanceConnectService.{self.operation}"
        headers = {
            "content-type": self.content_type,
            "host": f"{connection.host}:{connection.port}",
            "x-amz-date": stamp(self.time),
            "x-amz-target": target,
            **self.more_headers,
        }
        authorization = self.authorization(self.sign(headers))
        headers.update(self.unsigned_headers)
        return headers if authorization is None else {**headers, "authorization": authorization}

    def sign(self, headers):
        names = self.order(headers)
        signed_body = self.content if self.signed_body is None else self.signed_body
        canonical = "\n".join(
            [self.method, "/", self.query]
            + [f"{name}:{headers[name]}" for name in names]
            + ["", ";".join(names), hashlib.sha256(signed_body).hexdigest()]
        )
        credentials = self.dev.ready[self.caller]
        scope = f"{stamp(self.time)[:8]}/{self.region or self.dev.region}/{self.service}/aws4_request"
        key = ("AWS4" + (self.secret or credentials["secret_access_key"])).encode()
        for part in scope.split("/"):
            key = _hmac(key, part)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        signature = _hmac(key, f"AWS4-HMAC-SHA256\n{stamp(self.time)}\n{scope}\n{digest}").hex()
        credential = f"{self.key_id or credentials['access_key_id']}/{scope}"
        return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={';'.join(names)}, Signature={signature}"


@dataclass
class Answer:
    """An answer of the API."""

    status: int
    headers: dict
    body: bytes
