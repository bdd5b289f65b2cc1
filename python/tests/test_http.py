"""The edges of the link: who may ask, and what a request may look like."""

from __future__ import annotations

import json
import socket

import pytest

from harness import DEADLINE, TOKEN, Answer, Json, Runner
from support import CALLABLES, request, spec, text


@pytest.mark.parametrize("given", ["", "Bearer wrong", f"Basic {TOKEN}", TOKEN])
@pytest.mark.parametrize("path", ["/healthz", "/v1/schema", "/v1/nowhere"])
def test_request_without_the_token_is_not_executed(shared: Runner, path: str, given: str) -> None:
    answer = shared.call("GET", path, authorization=given)

    assert answer.status == 401
    assert answer.error["kind"] == "config"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/runs"),
        ("PUT", "/v1/runs"),
        ("POST", "/healthz"),
        ("POST", "/v1/runs/x"),
        ("POST", "/v1/runs/x/unknown"),
        ("POST", "/v1/tools/os.system/call"),
        ("POST", "/v1/tools/..:system/call"),
    ],
)
def test_unknown_path_is_not_found(shared: Runner, method: str, path: str) -> None:
    assert shared.call(method, path, {}).status == 404


@pytest.mark.parametrize("verb", ["permit", "tool_results", "messages"])
def test_unknown_run_is_not_found(shared: Runner, verb: str) -> None:
    bodies: dict[str, Json] = {
        "permit": {"seq": 1},
        "tool_results": {"tool_call_id": "x", "status": "ok"},
        "messages": {"message_id": "m1", "content": "hello"},
    }
    answer = shared.post(f"/v1/runs/never-seen/{verb}", {"attempt": 1, **bodies[verb]})

    assert answer.status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"spec":{"tool_timeout":NaN}}',
        b'{"spec":{"tool_timeout":Infinity}}',
        b'{"spec":{"name":"\\ud800"}}',
        b'{"spec":{"name":"\xff"}}',
        b'{"spec":{},"spec":{}}',
        b'{"spec":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"spec":{"tool_timeout":1e999}}',
    ],
)
def test_body_that_cannot_be_decoded_is_refused(shared: Runner, body: bytes) -> None:
    answer = shared.post("/v1/agents/validate", body)

    assert answer.status == 400
    assert answer.error["kind"] == "decode"
    assert len(answer.error["message"]) < 600


@pytest.mark.parametrize(
    "body", [b"[1,2]", b"null", b"{}", b'{"unknown":1,"spec":{}}', b'{"spec":[]}']
)
def test_body_of_the_wrong_shape_is_a_config_error(shared: Runner, body: bytes) -> None:
    answer = shared.post("/v1/agents/validate", body)

    assert answer.status == 400
    assert (answer.error["kind"], answer.error["class"]) == ("config", "Refused")


def test_decode_error_shows_where_the_body_begins(shared: Runner) -> None:
    answer = shared.post("/v1/runs", b'{"prompt": oops' + b"x" * 1000)

    assert '{"prompt": oops' in answer.error["message"]
    assert len(answer.error["message"]) < 400


def test_large_body_is_refused_before_it_is_read() -> None:
    with Runner(callables=CALLABLES, limits={"body_bytes": 1000}) as runner:
        connection = runner.connect()
        connection.putrequest("POST", "/v1/runs")
        for name, value in runner.headers().items():
            connection.putheader(name, value)
        connection.putheader("content-length", "1001")
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == 413
        response.read()
        connection.close()


def test_large_chunked_body_is_refused() -> None:
    with Runner(callables=CALLABLES, limits={"body_bytes": 1000}) as runner:
        connection = runner.connect()
        connection.request(
            "POST",
            "/v1/runs",
            iter([b"x" * 600, b"x" * 600]),
            runner.headers(),
            encode_chunked=True,
        )
        assert connection.getresponse().status == 413
        connection.close()


def test_connection_is_kept_for_the_next_request(shared: Runner) -> None:
    connection = shared.connect()
    for _ in range(3):
        connection.request("GET", "/healthz", headers=shared.headers())
        response = connection.getresponse()
        assert response.status == 200
        response.read()
    connection.request("POST", "/v1/runs", json.dumps(request([text()], spec())), shared.headers())
    stream = connection.getresponse()
    assert b"attempt_completed" in stream.read()
    connection.request("GET", "/healthz", headers=shared.headers())
    assert connection.getresponse().read()
    connection.close()


def test_pipelined_requests_are_answered_in_order(shared: Runner) -> None:
    head = f"Host: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
    data = (b"GET /healthz HTTP/1.1\r\n" + head) * 2000
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(DEADLINE)
        link.connect(shared.path)
        link.sendall(data[: len(data) // 2])
        link.sendall(data[len(data) // 2 :])
        received = b""
        # A status line may come in two parts.
        while received.count(b"HTTP/1.1 200") < 2000:
            received += link.recv(65536)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"431"),
    ],
)
def test_malformed_http_is_refused(shared: Runner, data: bytes, status: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(DEADLINE)
        link.connect(shared.path)
        link.sendall(data)
        assert link.recv(100).startswith(b"HTTP/1.1 " + status)


def test_schema_describes_the_wire(shared: Runner) -> None:
    schema = shared.get("/v1/schema").body

    assert schema.keys() == {"spec", "events", "messages", "agent"}
    assert schema["agent"] is None
    assert "output" in schema["spec"]["properties"]
    assert "$defs" in schema["events"]


def refusal(runner: Runner, **fields: object) -> Answer:
    """The refusal of a run."""
    return runner.start(request([text()], spec(), **fields)).refusal()


@pytest.mark.parametrize(
    "fields",
    [
        {"attempt": 0},
        {"attempt": "1"},
        {"attempt": 1.0},
        {"attempt": True},
        {"timeout": "1"},
        {"stream": "true"},
        {"conversation_id": ""},
        {"run_id": ""},
        {"timeout": -1},
        {"usage_limits": {"no_such_limit": 1}},
        {"usage_limits": {"request_limit": "1"}},
        {"message_history": [{"kind": "poem"}]},
        {"surprise": True},
    ],
)
def test_run_request_outside_the_protocol_is_refused(
    shared: Runner, fields: dict[str, object]
) -> None:
    answer = refusal(shared, **fields)

    assert (answer.status, answer.error["kind"]) == (400, "config")
    assert answer.error["class"] == "Refused"


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("permit", {"attempt": "1", "seq": 1}),
        ("permit", {"attempt": 1, "seq": "1"}),
        ("tool_results", {"attempt": "1", "tool_call_id": "x", "status": "ok"}),
        ("messages", {"attempt": "1", "content": "hello"}),
    ],
)
def test_number_that_is_text_is_refused(shared: Runner, verb: str, body: Json) -> None:
    answer = shared.post(f"/v1/runs/never-seen/{verb}", body)

    assert (answer.status, answer.error["kind"]) == (400, "config")
