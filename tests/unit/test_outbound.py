"""Which addresses are posted to, and how far a receiver can go with us (ASVS 5.0 1.3.6, API Top 10 7)."""

from __future__ import annotations

import datetime as dt
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from moderation.domain.errors import InvalidInput
from moderation.outbound import Cause, Client, SendFailed, check_url

PUBLIC = "93.184.215.14"

BAD_URLS = [
    # not https, or nothing at all
    "",
    "https://",
    "https:///hook",
    "//hooks.example.com/",
    "hooks.example.com/hook",
    "http://hooks.example.com/",
    "ftp://hooks.example.com/",
    "file:///etc/passwd",
    "gopher://hooks.example.com/",
    "javascript:alert(1)",
    "https:/hooks.example.com/",
    # somebody's password, or a host that only looks like one
    "https://user@hooks.example.com/",
    "https://user:secret@hooks.example.com/",
    "https://hooks.example.com@127.0.0.1/",
    "https://hooks.example.com:443@127.0.0.1:8443/",
    "https://hooks.example.com\\@127.0.0.1/",
    "https://127.0.0.1\\.example.com/",
    "https://hooks.example.com/#fragment",
    "https://hooks.example.com#@127.0.0.1/",
    # characters
    "https://hooks.example.com/a b",
    "https://hooks.example.com/\r\nHost: 127.0.0.1",
    "https://hooks.example.com\t/",
    "https://hooks.exa\x00mple.com/",
    " https://hooks.example.com/",
    "https://höoks.example.com/",
    "https://①②⑦.⓪.⓪.①/",
    "https://127。0。0。1/",
    "https://%31%32%37.0.0.1/",
    "https://hooks.example.com/" + "a" * 2_048,
    # names
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://localhost.localdomain/",
    "https://intranet/",
    "https://hooks.example.com./",
    "https://hooks..example.com/",
    "https://.example.com/",
    "https://-hooks.example.com/",
    "https://hooks_1.example.com/",
    "https://printer.local/",
    "https://metadata.google.internal/computeMetadata/v1/",
    "https://abc.onion/",
    "https://1.0.0.127.in-addr.arpa/",
    "https://" + "a" * 64 + ".example.com/",
    # ports
    "https://hooks.example.com:22/",
    "https://hooks.example.com:25/",
    "https://hooks.example.com:80/",
    "https://hooks.example.com:0/",
    "https://hooks.example.com:65536/",
    "https://hooks.example.com:/",
    "https://hooks.example.com:+443/",
    # IPv4, in every notation a C library would take
    "https://127.0.0.1/",
    "https://127.0.0.1:8443/",
    "https://127.255.255.254/",
    "https://127.1/",
    "https://127.0.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0x7f.0x0.0x0.0x1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.0.0.01/",
    "https://127.0.0.1./",
    "https://256.0.0.1/",
    "https://1.2.3.4.5/",
    "https://0.0.0.0/",
    "https://0/",
    "https://0.1.2.3/",
    "https://10.0.0.1/",
    "https://100.64.0.1/",
    "https://100.100.100.200/",
    "https://100.127.255.255/",
    "https://168.63.129.16/",
    "https://169.254.169.254/latest/meta-data/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.0.0.192/",
    "https://192.0.2.1/",
    "https://192.88.99.1/",
    "https://192.168.1.1/",
    "https://198.18.0.1/",
    "https://198.19.255.255/",
    "https://198.51.100.7/",
    "https://203.0.113.9/",
    "https://224.0.0.1/",
    "https://239.255.255.250/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    # IPv6
    "https://[::]/",
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::1]:8443/",
    "https://::1/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:93.184.215.14]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::10.0.0.1]/",
    "https://[64:ff9b::169.254.169.254]/",
    "https://[64:ff9b:1::5db8:d70e]/",
    "https://[100::1]/",
    "https://[2001::1]/",
    "https://[2001:0:7f00:1::]/",
    "https://[2001:2::1]/",
    "https://[2001:10::1]/",
    "https://[2001:db8::1]/",
    "https://[2002:7f00:1::]/",
    "https://[2002:a00:1::1]/",
    "https://[2002:5db8:d70e::1]/",
    "https://[3fff::1]/",
    "https://[5f00::1]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[v1.::1]/",
    "https://[::1/",
    "https://[12345::1]/",
]

GOOD_URLS = [
    "https://hooks.example.com/",
    "https://hooks.example.com",
    "https://HOOKS.Example.COM/Path",
    "https://hooks.example.com:443/hook",
    "https://hooks.example.com:8443/hook?tenant=7&b=%20",
    "https://hooks.example.com?tenant=7",
    "https://hooks.example.com/@team/hook",
    "https://hooks.example.com:65535/",
    "https://a.b.c.d.example.co.uk/",
    "https://xn--hks-tna.example.com/",
    "https://1.example.com/",
    "https://0x7f.example.com/",
    "https://93.184.215.14/",
    "https://8.8.8.8:8443/",
    "https://100.63.255.255/",
    "https://100.128.0.1/",
    "https://172.15.0.1/",
    "https://172.32.0.1/",
    "https://[2606:4700:4700::1111]/",
    "https://[2a00:1450:4001:80b::200e]:8443/hook",
    "https://[64:ff9b::93.184.215.14]/",
]

BAD_ANSWERS = [
    ["127.0.0.1"],
    ["10.1.2.3"],
    ["169.254.169.254"],
    ["::1"],
    ["fe80::1%eth0"],
    ["fd00::1"],
    ["::ffff:127.0.0.1"],
    [PUBLIC, "127.0.0.1"],  # one of several
    ["2606:4700:4700::1111", "192.168.0.1"],
    ["not an address"],
    [],
]


def resolver(*answers: Sequence[str]) -> Callable[[str, int], Sequence[str]]:
    """Answers in turn; the last one for ever."""
    left = list(answers)
    return lambda host, port: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize("url", BAD_URLS)
def test_bad_address_is_refused_at_registration_and_at_sending(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"\.$"):
        check_url(url, insecure_dev=False, resolver=resolver([PUBLIC]))
    with (
        Client(insecure_dev=False, resolver=resolver([PUBLIC])) as client,
        pytest.raises(SendFailed) as failed,
    ):
        client.post(url, b"{}", {}, timeout=PATIENCE)
    assert failed.value.cause is Cause.ADDRESS


def test_the_table_is_long_enough() -> None:
    assert len(set(BAD_URLS)) == len(BAD_URLS) >= 60
    assert len(GOOD_URLS) >= 12


@pytest.mark.parametrize("url", GOOD_URLS)
def test_good_address_passes(url: str) -> None:
    check_url(url, insecure_dev=False, resolver=resolver([PUBLIC, "2606:4700:4700::1111"]))


@pytest.mark.parametrize("answers", BAD_ANSWERS, ids=str)
def test_every_resolved_address_counts(answers: Sequence[str]) -> None:
    with pytest.raises(InvalidInput):
        check_url("https://hooks.example.com/", insecure_dev=False, resolver=resolver(answers))


def test_unknown_host() -> None:
    def nothing(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    with pytest.raises(InvalidInput, match="DNS"):
        check_url("https://hooks.example.com/", insecure_dev=False, resolver=nothing)
    assert failure("https://hooks.example.com/", nothing) is Cause.NAME


@pytest.mark.parametrize(
    ("url", "answers", "allowed"),
    [
        ("http://127.0.0.1:8000/", [], True),
        ("http://[::1]:8000/", [], True),
        ("http://localhost:8000/", ["127.0.0.1", "::1"], True),
        ("http://hooks.example.com/", [PUBLIC], True),
        ("http://hooks.example.com/", ["10.0.0.1"], False),
        ("http://192.168.0.1:8000/", [], False),
        ("http://169.254.169.254/", [], False),
        ("http://0.0.0.0:8000/", [], False),
        ("http://[::ffff:127.0.0.1]:8000/", [], False),
        ("http://127.0.0.1:22/", [], False),
        ("http://user@127.0.0.1:8000/", [], False),
    ],
)
def test_insecure_dev_opens_loopback_and_http_only(url: str, answers: list[str], allowed: bool) -> None:
    try:
        check_url(url, insecure_dev=True, resolver=resolver(answers))
    except InvalidInput:
        assert not allowed
    else:
        assert allowed


# --- against a receiver that speaks raw bytes ---

PATIENCE = 60.0  # only a machine that stalls takes so long
DRIPS = 1_200  # for a minute
Serve = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def receiver(serve: Serve) -> Iterator[int]:
    """A listener on loopback that hands each connection to `serve`; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    served: list[threading.Thread] = []

    def one(connection: socket.socket) -> None:
        with closing(connection):
            connection.settimeout(PATIENCE)
            try:
                serve(connection)
            except OSError:  # cut off by the client, as many of these tests want
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            served.append(threading.Thread(target=one, args=(connection,)))
            served[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for thread in served:
            thread.join()


def failure(url: str, resolve: Callable[[str, int], Sequence[str]], seconds: float = PATIENCE) -> Cause:
    with Client(insecure_dev=True, resolver=resolve) as client, pytest.raises(SendFailed) as failed:
        client.post(url, b"{}", {}, timeout=seconds)
    return failed.value.cause


def read_request(connection: socket.socket) -> bytes:
    """One whole request, head and body; nothing when the client has closed."""
    data = b""
    while (chunk := connection.recv(65_536)) or not data:
        if not chunk:
            return b""
        data += chunk
        head, found, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if found and length and len(body) >= int(length[1]):
            break
    return data


def answering(answer: bytes, requests: list[bytes] | None = None) -> Serve:
    def serve(connection: socket.socket) -> None:
        while data := read_request(connection):
            if requests is not None:
                requests.append(data)
            connection.sendall(answer)

    return serve


def test_post_sends_what_it_is_given_and_keeps_the_connection() -> None:
    requests: list[bytes] = []
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        connections.append(connection)
        answering(OK, requests)(connection)

    with receiver(serve) as port, Client(insecure_dev=True) as client:
        url = f"http://127.0.0.1:{port}/hook?a=1"
        for _ in range(2):
            assert client.post(url, b'{"a":1}', {"webhook-id": "msg_1"}).status == 200
    assert (len(requests), len(connections)) == (2, 1)
    head, _, body = requests[0].partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "post /hook?a=1 http/1.1"
    assert {f"host: 127.0.0.1:{port}", "content-length: 7", "webhook-id: msg_1"} <= set(lines)
    assert body == b'{"a":1}'


def test_rebinding_is_refused_at_sending() -> None:
    """The name was public when it was registered and is loopback when it is used."""
    requests: list[bytes] = []
    with receiver(answering(OK, requests)) as port:
        url = f"https://hooks.example.com:{port}/"
        turning = resolver([PUBLIC], ["127.0.0.1"])
        check_url(url, insecure_dev=False, resolver=turning)
        with Client(insecure_dev=False, resolver=turning) as client, pytest.raises(SendFailed) as failed:
            client.post(url, b"{}", {})
    assert failed.value.cause is Cause.ADDRESS
    assert requests == []


def test_connection_goes_to_the_address_that_was_checked() -> None:
    """A second look-up would answer otherwise: there must be none."""
    asked: list[str] = []

    def turning(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    requests: list[bytes] = []
    with receiver(answering(OK, requests)) as port, Client(insecure_dev=True, resolver=turning) as client:
        assert client.post(f"http://hooks.example.com:{port}/", b"{}", {}).status == 200
    assert asked == ["hooks.example.com"]
    assert f"host: hooks.example.com:{port}".encode() in requests[0].lower()


def test_next_address_is_tried_when_one_does_not_connect() -> None:
    with receiver(answering(OK)) as port:
        both = resolver(["::1", "127.0.0.1"])  # the receiver listens on IPv4 only
        with Client(insecure_dev=True, resolver=both) as client:
            assert client.post(f"http://hooks.example.com:{port}/", b"{}", {}).status == 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_an_answer_and_not_followed(status: int) -> None:
    requests: list[bytes] = []
    with receiver(answering(OK, requests)) as elsewhere:
        location = f"Location: http://127.0.0.1:{elsewhere}/\r\n".encode()
        redirect = b"HTTP/1.1 %d Go\r\n" % status + location + b"Content-Length: 0\r\n\r\n"
        with receiver(answering(redirect)) as port, Client(insecure_dev=True) as client:
            assert client.post(f"http://127.0.0.1:{port}/", b"{}", {}).status == status
    assert requests == []


def test_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    proxied: list[bytes] = []
    with receiver(answering(OK, proxied)) as proxy, receiver(answering(OK)) as port:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with Client(insecure_dev=True) as client:
            assert client.post(f"http://127.0.0.1:{port}/", b"{}", {}).status == 200
    assert proxied == []


def drip_headers(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(DRIPS):
        connection.sendall(b"a")
        time.sleep(0.05)


def drip_informational(connection: socket.socket) -> None:
    read_request(connection)
    for _ in range(DRIPS):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.05)


def hang(connection: socket.socket) -> None:
    while connection.recv(65_536):
        pass


@pytest.mark.parametrize("serve", [hang, drip_headers, drip_informational])
def test_deadline_covers_the_whole_exchange(serve: Serve) -> None:
    ended = threading.Event()

    def watched(connection: socket.socket) -> None:
        serve(connection)
        # The others drip for a minute unless they are cut off, which is an error to them.
        if serve is not hang:
            ended.set()

    with receiver(watched) as port:
        assert failure(f"http://127.0.0.1:{port}/", resolver([]), seconds=0.6) is Cause.TIMEOUT
    assert not ended.is_set()


def test_deadline_covers_the_look_up() -> None:
    released, looked_up = threading.Event(), threading.Event()

    def slow(host: str, port: int) -> Sequence[str]:
        released.wait(PATIENCE)
        looked_up.set()
        return [PUBLIC]

    try:
        assert failure("https://hooks.example.com/", slow, seconds=0.3) is Cause.TIMEOUT
        assert not looked_up.is_set()
    finally:
        released.set()


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_body_is_cut_off_and_the_status_stands(pause: float) -> None:
    """A body without end, as fast as it goes or in drips: neither memory nor time is spent on it."""
    sent = 0

    def serve(connection: socket.socket) -> None:
        nonlocal sent
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while sent < 200_000_000:
            sent += connection.send(b"x" * 65_536 if not pause else b"x")
            time.sleep(pause)

    with receiver(serve) as port, Client(insecure_dev=True) as client:
        assert client.post(f"http://127.0.0.1:{port}/", b"{}", {}, timeout=4 * PATIENCE).status == 200
    # What the kernel's buffers hold; and drips of a minute at most, of the four that there was time for.
    assert sent < (DRIPS if pause else 20_000_000)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"", Cause.PROTOCOL),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", Cause.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", Cause.PROTOCOL),
    ],
    ids=["nothing", "ssh", "header without end"],
)
def test_answers_that_are_none(answer: bytes, cause: Cause) -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer)

    with receiver(serve) as port:
        assert failure(f"http://127.0.0.1:{port}/", resolver([])) is cause


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert failure(f"http://127.0.0.1:{port}/", resolver([])) is Cause.CONNECTION


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (b"", None),
        (b"Retry-After: 120\r\n", 120.0),
        (b"retry-after: 0\r\n", 0.0),
        (b"Retry-After: -5\r\n", None),
        (b"Retry-After: soon\r\n", None),
        (b"Retry-After: 99999999999999999999\r\n", 999_999_999.0),
        (
            b"Date: Wed, 21 Oct 2026 07:28:00 GMT\r\nRetry-After: Wed, 21 Oct 2026 07:29:30 GMT\r\n",
            90.0,
        ),
        (b"Date: Wed, 21 Oct 2026 07:28:00 GMT\r\nRetry-After: Wed, 21 Oct 2020 07:28:00 GMT\r\n", 0.0),
        (b"Retry-After: Wed, 21 Oct 2026 07:29:30 GMT\r\n", None),
    ],
)
def test_retry_after(headers: bytes, seconds: float | None) -> None:
    answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n" + headers + b"\r\n"
    with receiver(answering(answer)) as port, Client(insecure_dev=True) as client:
        assert client.post(f"http://127.0.0.1:{port}/", b"{}", {}).retry_after == seconds


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for `hooks.example.com`, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example.com")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example.com")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "hooks.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def tls_serve(certificate: Path, names: list[str | None]) -> Serve:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda sock, name, ctx: names.append(name)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            answering(OK)(secure)

    return serve


def test_tls_is_verified_by_the_name_of_the_url(certificate: Path) -> None:
    names: list[str | None] = []
    trusting = ssl.create_default_context(cafile=str(certificate))
    with receiver(tls_serve(certificate, names)) as port:
        loopback = resolver(["127.0.0.1"])
        with Client(insecure_dev=True, resolver=loopback, tls=trusting) as client:
            assert client.post(f"https://hooks.example.com:{port}/", b"{}", {}).status == 200
            with pytest.raises(SendFailed) as other_name:
                client.post(f"https://other.example.com:{port}/", b"{}", {})
        assert failure(f"https://hooks.example.com:{port}/", loopback) is Cause.TLS  # nobody's root
    assert names == ["hooks.example.com", "other.example.com", "hooks.example.com"]
    assert other_name.value.cause is Cause.TLS


def test_deadline_covers_the_handshake() -> None:
    with receiver(hang) as port:
        assert failure(f"https://127.0.0.1:{port}/", resolver([]), seconds=0.4) is Cause.TIMEOUT
