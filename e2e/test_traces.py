"""Traces over OTLP. The collector here is ours, some lines of http; what it is sent is read by OpenTelemetry's own classes."""

import ssl
import threading
import urllib.request
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.exceptions
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from dev import PROGRAMS
from system import eventually, run
from test_serve import ControlPlane, certificate, push

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "Bearer of-nobodys-business"
HEADERS = f"authorization={SECRET.replace(' ', '%20')}"


class Collector:
    """Takes what is sent to it. While it is `stuck` it answers nothing."""

    def __init__(self, tls=None):
        self.requests, self.headers, self.stuck = [], [], threading.Event()
        self.goes_on = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if collector.stuck.is_set():
                    collector.goes_on.wait()
                    return
                assert self.path == "/v1/traces", self.path
                collector.headers.append(self.headers)
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
            self.url = f"https://localhost:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self, request_id):
        """Those of the trace that this request is in, by name, once all have come."""

        def find():
            spans = [
                span
                for request in list(self.requests)
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
            root = next((span for span in spans if attributes(span).get("aws.request_id") == request_id), None)
            return root and [span for span in spans if span.trace_id == root.trace_id]

        return eventually(find, f"the spans of {request_id}")

    def resource(self):
        return attributes(self.requests[0].resource_spans[0].resource)

    def close(self):
        self.goes_on.set()
        self.server.shutdown()
        self.server.server_close()


def attributes(of):
    return {item.key: item.value.string_value or item.value.int_value for item in of.attributes}


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.close()


def traced(client, header, value):
    """Has a boto3 client send a header that it does not sign, as instrumented programs do."""
    client.meta.events.register("before-send.*.*", lambda request, **_: request.headers.update({header: value}))
    return client


def push_with(dev, key, header, value):
    answer = traced(dev.client(), header, value).send_ssh_public_key(
        InstanceId=dev.first.id, InstanceOSUser=dev.first.os_user, SSHPublicKey=key.public
    )
    return answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]


def test_a_push_is_one_trace_of_its_parts(new_dev, new_key, collector):
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": HEADERS,
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=tests",
    }
    dev = new_dev(environment=environment)
    key = new_key()
    request_id = push_with(dev, key, "traceparent", f"00-{TRACE}-{PARENT}-01")
    spans = {}
    for span in collector.spans(request_id):
        spans.setdefault(span.name, []).append(span)
    assert {name: len(of_name) for name, of_name in spans.items()} == {
        "SendSSHPublicKey": 1,
        "authorize": 1,
        "audit": 2,
        "deliver": 1,
    }
    [request] = spans.pop("SendSSHPublicKey")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert request.kind == request.SPAN_KIND_SERVER
    assert attributes(request) == {
        "aws.request_id": request_id,
        "rpc.system": "aws-api",
        "rpc.method": "SendSSHPublicKey",
        "http.response.status_code": 200,
    }
    for span in (span for of_name in spans.values() for span in of_name):
        assert span.parent_span_id == request.span_id and attributes(span) == {}, span
        assert request.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= request.end_time_unix_nano
    resource = collector.resource()
    assert resource["service.name"] == "instance-connectd"
    assert resource["service.version"] == run(PROGRAMS / "instance-connectd", "--version").stdout.split()[1]
    assert resource["deployment.environment.name"] == "tests"
    assert collector.headers[0]["authorization"] == SECRET

    # AWS's own header, as the SDKs send it in Lambda.
    request_id = push_with(dev, key, "x-amzn-trace-id", f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={PARENT};Sampled=1")
    assert {span.trace_id.hex() for span in collector.spans(request_id)} == {TRACE}

    # A refusal says why, by its name only. Its log lines have the trace.
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        dev.client("limited").send_ssh_public_key(InstanceId=dev.second.id, InstanceOSUser="root", SSHPublicKey=key.public)
    request_id = refused.value.response["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    request = next(span for span in collector.spans(request_id) if span.name == "SendSSHPublicKey")
    assert attributes(request)["error.type"] == "AccessDeniedException"
    assert request.status.code == request.status.STATUS_CODE_UNSET

    sent = b"".join(request.SerializeToString() for request in collector.requests)
    secrets = [dev.ready[caller]["secret_access_key"] for caller in ("admin", "limited")]
    for word in [*secrets, key.public.split()[1], dev.first.os_user, dev.first.id]:
        assert word.encode() not in sent


def metric(dev, name):
    with urllib.request.urlopen(dev.ready["metrics_url"]) as answer:
        lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines())
    return float(lines[name])


@pytest.mark.parametrize("is_there", [True, False])
def test_pushes_go_on_whatever_becomes_of_the_collector(new_dev, new_key, collector, is_there):
    """One that takes connections and never answers, and one that is not there. What cannot be sent is not in the log either."""
    collector.stuck.set()
    if not is_there:
        collector.close()
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "500",
        "OTEL_EXPORTER_OTLP_HEADERS": HEADERS,
        "RUST_LOG": "debug",
    }
    dev = new_dev(environment=environment)
    key = new_key()
    for _ in range(3):
        assert dev.push(key).login().succeeded
    eventually(lambda: metric(dev, "instance_connect_spans_failed_total") > 0, "spans that could not be sent are counted")
    assert dev.push(key).login().succeeded
    log = (dev.folder / "control-plane.log").read_text()
    assert log.count("traces cannot be sent") == 1, log
    assert "no answer of the collector for traces" in log
    assert SECRET.split()[1] not in log


def test_what_is_left_is_sent_at_the_end(tmp_path):
    """By the configuration this time, over TLS, with a trace that its caller does not keep, and one of our own."""
    certificate(tmp_path, "collector")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    environment = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(tmp_path / "certificate.pem")}
    with closing(Collector(tls)) as collector, ExitStack() as ending:
        control_plane = ControlPlane(tmp_path)
        ending.callback(control_plane.stop)
        control_plane.start(f"--traces-endpoint={collector.url}", environment=environment)
        client = control_plane.client()
        assert push(traced(client, "traceparent", f"00-{TRACE}-{PARENT}-00")) == "EC2InstanceNotFoundException"
        assert push(control_plane.client()) == "EC2InstanceNotFoundException"
        control_plane.stop()
        left_out, kept = (record["requestID"] for record in control_plane.records()[-2:])
        assert {span.name for span in collector.spans(kept)} == {"SendSSHPublicKey", "authorize", "audit"}
        sent = b"".join(request.SerializeToString() for request in collector.requests)
        assert left_out.encode() not in sent
