"""The only HTTP client of the product: it posts to addresses that strangers chose (`fetch`: the operator's own).

Such an address is a way to make this machine talk to its own network (server-side request forgery, OWASP
API7:2023), so: https only, every address a name resolves to must be a public one, the connection goes to
the very address that was checked (a second look-up could answer otherwise: DNS rebinding), no redirect is
followed, no proxy of the environment is used, and one deadline covers the whole exchange.

It stands on httpcore, the part of httpx that speaks HTTP, and not on httpx itself: what httpx adds is
redirects, cookies, proxies, decompression and a second reading of the URL, all of which would have to be
switched off again.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Self
from urllib.parse import urlencode

import httpcore

from moderation.domain.errors import InvalidInput

TIMEOUT_SECONDS = 15.0  # Standard Webhooks asks senders for 15 to 30 s
CONNECT_SECONDS = 5.0  # of those, for one address of a name that has several
RESOLVE_SECONDS = 5.0
BODY_BYTES = 65_536
FETCHED_BYTES = 1_048_576
BODY_SECONDS = 1.0
URL_LENGTH = 2_048
USER_AGENT = "moderation-webhooks/1"

# Cut up by one expression rather than by a lenient library: what it doesn't match, two parsers may read
# in two ways, and nobody needs. The same parts are then both checked and connected to.
URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?:\[(?P<literal>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(?:/[^?#\\]*)?(?:\?[^#\\]*)?)",
    re.IGNORECASE,
)
LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# Names that are by definition not on the Internet: RFC 6761, 6762, 7686, 8375, 9476, ICANN's `.internal`.
SPECIAL_NAMES = frozenset(
    {"localhost", "local", "internal", "onion", "test", "invalid", "alt", "arpa", "localdomain"}
)

# IANA's special-purpose registries (RFC 6890). Written out, because `ipaddress.is_global` calls multicast,
# 6to4 and IPv4-compatible addresses global, and changes between releases of Python.
REFUSED_V4 = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private (RFC 1918)
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598); some clouds' metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # public by number, but a cloud's own host agent
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation (RFC 5737)
        "192.88.99.0/24",  # 6to4 relays, withdrawn (RFC 7526)
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
]
GLOBAL_V6 = IPv6Network("2000::/3")  # all that was ever given out; the rest is local, mapped or reserved
REFUSED_V6 = [
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation (RFC 3849)
        "2002::/16",  # 6to4: leads to the IPv4 address inside; withdrawn (RFC 7526)
        "3fff::/20",  # documentation (RFC 9637)
    )
]
# A network with IPv6 only reaches IPv4 hosts through this prefix (RFC 6052), so what is inside it counts.
NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Sequence[str]]
"""Host name and port to the addresses of the name, as text; raises `OSError` when there are none."""


class Cause(StrEnum):
    """Why nothing was answered, in words that may be shown and logged."""

    ADDRESS = "refused address"
    NAME = "unknown host"
    CONNECTION = "no connection"
    TLS = "no trusted tls"
    TIMEOUT = "timeout"
    PROTOCOL = "not http"


class SendFailed(Exception):
    """There was no answer."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. Its body is never kept; `retry_after` is in seconds."""

    status: int
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL as it was checked, and how the Host header names it."""

    url: httpcore.URL
    authority: str


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses the operating system knows for `host`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def check_url(url: str, insecure_dev: bool, resolver: Resolver = resolve) -> None:
    """Whether we would post to `url` now. It is checked again each time we do.

    Raises:
        InvalidInput: it isn't https to a public host, or its name has no address or one that isn't public.
    """
    target = _parse(url, insecure_dev).url
    end = time.monotonic() + RESOLVE_SECONDS
    try:
        _addresses(target.host.decode(), target.port or 0, insecure_dev, resolver, end)
    except SendFailed as failure:
        if failure.cause is Cause.ADDRESS:
            raise InvalidInput(
                "The url leads to an address that isn't public; use a public host."
            ) from failure
        raise InvalidInput("The url's host can't be found in the DNS; check its spelling.") from failure


def permitted(address: Address, insecure_dev: bool) -> bool:
    """Whether we connect to `address`: a public one, or with `insecure_dev` this machine's loopback."""
    if insecure_dev and address.is_loopback:
        return True
    if isinstance(address, IPv6Address):
        if address in NAT64:
            return permitted(IPv4Address(address.packed[-4:]), insecure_dev=False)
        if address.scope_id is not None or address not in GLOBAL_V6:
            return False
        return not any(address in network for network in REFUSED_V6)
    return not any(address in network for network in REFUSED_V4)


class Client:
    """Connections kept between posts to the same host; made for one batch, used by any number of threads."""

    def __init__(
        self, insecure_dev: bool, resolver: Resolver = resolve, tls: ssl.SSLContext | None = None
    ) -> None:
        self._insecure_dev = insecure_dev
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls or _trusted(),
            max_connections=None,
            max_keepalive_connections=16,
            keepalive_expiry=5.0,
            network_backend=_CheckedNetwork(insecure_dev, resolver),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def post(
        self, url: str, content: bytes, headers: Mapping[str, str], timeout: float = TIMEOUT_SECONDS
    ) -> Response:
        """POST `content`, and take at most `timeout` seconds over it, from the look-up to the answer.

        The answer is its status line and headers. Of a body only so much is read as lets the connection be
        used again (64 KiB, one second); a longer one is cut off and changes nothing.

        Raises:
            SendFailed: there was no answer, or the address is not one we post to.
        """
        try:
            target = _parse(url, self._insecure_dev)
        except InvalidInput as refusal:
            raise SendFailed(Cause.ADDRESS) from refusal
        # httpcore hands these numbers to the network backend as they are. A time-out there would be per
        # read, so that one byte now and then keeps a connection for ever; ours are moments (`_TimedStream`).
        end = time.monotonic() + timeout
        moments = {"connect": end, "write": end, "read": end}
        sent = {"Host": target.authority, "User-Agent": USER_AGENT, "Accept-Encoding": "identity"} | dict(
            headers
        )
        try:
            with self._pool.stream(
                "POST",
                target.url,
                headers=list(sent.items()),
                content=content,
                extensions={"timeout": moments},
            ) as answer:
                moments["read"] = min(end, time.monotonic() + BODY_SECONDS)
                _drain(answer)
                return Response(answer.status, _retry_after(answer.headers))
        except httpcore.TimeoutException as error:
            raise SendFailed(Cause.TIMEOUT) from error
        except httpcore.NetworkError as error:
            raise SendFailed(Cause.CONNECTION) from error
        except httpcore.ProtocolError as error:
            raise SendFailed(Cause.PROTOCOL) from error


def fetch(
    url: str, form: Mapping[str, str] | None, headers: Mapping[str, str], content: bytes | None = None
) -> tuple[int, bytes]:
    """GET an address that the operator of this service chose, or POST a form or `content` to it; status and body.

    Such an address may well lie in the operator's own network, so it is not checked as strangers' are. Redirects
    are not followed, and an answer has a megabyte and a few seconds.

    Raises:
        SendFailed: there was no answer, or too much of one.
    """
    end = _moment(None)
    sent = [("User-Agent", USER_AGENT), ("Accept", "application/json"), *headers.items()]
    body = content if form is None else urlencode(form).encode()
    if form is not None:
        sent.append(("Content-Type", "application/x-www-form-urlencoded"))
    if body is not None:
        sent.append(("Content-Length", str(len(body))))
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), CONNECT_SECONDS)
    method = "GET" if body is None else "POST"
    try:
        with (
            httpcore.ConnectionPool(ssl_context=_trusted()) as pool,
            pool.stream(method, url, headers=sent, content=body, extensions={"timeout": timeouts}) as answer,
        ):
            received = b""
            for chunk in answer.iter_stream():
                received += chunk
                _left(end, httpcore.ReadTimeout)
                if len(received) > FETCHED_BYTES:
                    raise SendFailed(Cause.PROTOCOL)
            return answer.status, received
    except httpcore.TimeoutException as error:
        raise SendFailed(Cause.TIMEOUT) from error
    except httpcore.NetworkError as error:
        raise SendFailed(Cause.CONNECTION) from error
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise SendFailed(Cause.PROTOCOL) from error


class _CheckedNetwork(httpcore.NetworkBackend):
    """Looks a name up once, checks every address, and connects to what it checked.

    Beneath TLS and HTTP, so that SNI, the certificate's name and the Host header stay those of the URL.
    """

    def __init__(self, insecure_dev: bool, resolver: Resolver) -> None:
        self._insecure_dev = insecure_dev
        self._resolver = resolver
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        end = _moment(timeout)
        addresses = _addresses(host, port, self._insecure_dev, self._resolver, end)
        failure: Exception = httpcore.ConnectTimeout()
        for address in addresses:
            seconds = min(_left(end, httpcore.ConnectTimeout), CONNECT_SECONDS)
            try:
                stream = self._plain.connect_tcp(str(address), port, seconds, local_address, socket_options)
                return _TimedStream(stream)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _TimedStream(httpcore.NetworkStream):
    """A connection whose `timeout` arguments are moments of the monotonic clock, not seconds."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(_moment(timeout), httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(_moment(timeout), httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = _left(_moment(timeout), httpcore.ConnectTimeout)
        try:
            return _TimedStream(self._inner.start_tls(ssl_context, server_hostname, seconds))
        except httpcore.ConnectError as error:
            raise SendFailed(Cause.TLS) from error

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _parse(url: str, insecure_dev: bool) -> _Target:
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > URL_LENGTH:
        raise InvalidInput(
            f"The url must be at most {URL_LENGTH} printable ASCII characters; write other names as xn--."
        )
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise InvalidInput("The url must not hold a user name or password; requests are signed instead.")
    match = URL.fullmatch(url)
    if match is None:
        raise InvalidInput("The url can't be read; write https://host/path, without a fragment.")
    scheme = match["scheme"].lower()
    if scheme != "https" and not (insecure_dev and scheme == "http"):
        raise InvalidInput("The url must begin with https://.")
    host = _literal(match["literal"]) if match["literal"] else _name(match["name"].lower(), insecure_dev)
    port = _port(match["port"], scheme, insecure_dev)
    authority = f"[{host}]" if match["literal"] else host
    if match["port"]:
        authority += f":{port}"
    path = match["target"] if match["target"].startswith("/") else "/" + match["target"]
    checked = httpcore.URL(scheme=scheme.encode(), host=host.encode(), port=port, target=path.encode())
    return _Target(checked, authority)


def _literal(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError as error:
        raise InvalidInput("The url's IPv6 address can't be read.") from error


def _name(host: str, insecure_dev: bool) -> str:
    labels = host.split(".")
    # The C library also takes 127.1, 0x7f.1 and 2130706433 for addresses (inet_aton), and so the WHATWG
    # URL standard reads any host that ends in a number as one: only four plain decimals are accepted.
    if NUMBER.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(host))
        except ValueError as error:
            raise InvalidInput("Write the url's IPv4 address as four decimal numbers.") from error
    if host == "localhost" and insecure_dev:
        return host
    if len(host) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        raise InvalidInput("The url's host isn't a name of letters, digits, hyphens and single dots.")
    if len(labels) < 2 or labels[-1] in SPECIAL_NAMES:
        raise InvalidInput("The url's host is a local name; use one that everybody can resolve.")
    return host


def _port(text: str | None, scheme: str, insecure_dev: bool) -> int:
    port = int(text) if text else {"https": 443, "http": 80}[scheme]
    # Below 1024 live mail, SSH, SMB and the like, which have been fooled by the bytes of an HTTP request.
    if port == 443 or 1024 <= port <= 65_535 or (insecure_dev and port == 80):
        return port
    raise InvalidInput("The url's port must be 443 or from 1024 to 65535.")


def _addresses(host: str, port: int, insecure_dev: bool, resolver: Resolver, end: float) -> Sequence[Address]:
    """The addresses of `host`, if we may connect to each of them. One bad among them refuses all."""
    try:
        answers: Sequence[str] = [str(ip_address(host))]
    except ValueError:
        answers = _within(end, resolver, host, port)
    try:
        addresses = [ip_address(answer) for answer in answers]
    except ValueError as error:
        raise SendFailed(Cause.ADDRESS) from error
    if not addresses:
        raise SendFailed(Cause.NAME)
    if not all(permitted(address, insecure_dev) for address in addresses):
        raise SendFailed(Cause.ADDRESS)
    return addresses


def _within(end: float, resolver: Resolver, host: str, port: int) -> Sequence[str]:
    """Resolve in a thread of its own: the C library's look-up knows no deadline, and its DNS is not ours."""
    future: Future[Sequence[str]] = Future()

    def work() -> None:
        try:
            future.set_result(resolver(host, port))
        except BaseException as error:  # noqa: BLE001  (raised again by whoever waits)
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return future.result(_left(end, httpcore.ConnectTimeout))
    except TimeoutError as error:
        raise SendFailed(Cause.TIMEOUT) from error
    except (OSError, UnicodeError) as error:
        raise SendFailed(Cause.NAME) from error


def _drain(answer: httpcore.Response) -> None:
    read = 0
    try:
        for chunk in answer.iter_stream():
            read += len(chunk)
            if read > BODY_BYTES:
                return
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        return  # the status was received; only the connection is of no further use


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """`Retry-After` in seconds (RFC 9110, 10.2.3). A date is read against the answer's own clock."""
    found = {name.lower(): value.decode("ascii", "replace").strip() for name, value in headers}
    text = found.get(b"retry-after", "")
    if text.isdecimal():
        return float(text[:9])
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(found.get(b"date", ""))
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())


def _moment(timeout: float | None) -> float:
    return time.monotonic() + TIMEOUT_SECONDS if timeout is None else timeout


def _left(end: float, late: type[httpcore.TimeoutException]) -> float:
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise late
    return seconds


@cache
def _trusted() -> ssl.SSLContext:
    """The system's and certifi's roots; loading them takes longer than a post."""
    return httpcore.default_ssl_context()
