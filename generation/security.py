"""Who may use the server: the Host header, the API key, the headers that browsers obey."""

import hmac
import ipaddress
import socket
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from configurator import UserError
from generation.completions import ApiError

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Access:
    """Who may use the server. Raises UserError where it would be open to a network by mistake."""

    host: str  # the address that the server is bound to
    api_key: str  # "": none is needed
    insecure: bool  # open to the network without a key
    allow_origin: tuple[str, ...]  # web pages of other origins that may use the API

    def __post_init__(self):
        if not self.is_local and not self.api_key and not self.insecure:
            raise UserError(
                f"--host={self.host} lets every computer of the network use the page and the model."
                "\nSet --api_key=SECRET, which they then need, or --insecure if anybody may."
            )

    @property
    def is_local(self) -> bool:
        """Is the server reachable from this computer only?"""
        return self.host == "localhost" or is_address(self.host) and ipaddress.ip_address(self.host).is_loopback

    def allows_host(self, header: str) -> bool:
        """May a request have this Host header?

        A web page can give its own name the address of this computer (DNS rebinding) and so reach a server without a
        key. Its requests then bear its name. So only own names are allowed, or, on a network, any address.
        """
        if not self.is_local and self.api_key:
            return True
        name = host_name(header)
        if name in ("localhost", "127.0.0.1", "::1", self.host.lower()):
            return True
        own = socket.gethostname().lower()
        return not self.is_local and (is_address(name) or name in (own, f"{own}.local"))

    def allows_key(self, authorization: str) -> bool:
        """Has this Authorization header (its bytes as latin-1) the key? Compared in constant time."""
        expected = f"Bearer {self.api_key}".encode()
        return not self.api_key or hmac.compare_digest(authorization.encode("latin-1"), expected)


def host_name(header: str) -> str:
    """A Host header without its port and brackets."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].removesuffix(".")


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def error_response(error: ApiError) -> JSONResponse:
    """OpenAI's error object as a response."""
    return JSONResponse(error.body, error.status, error.headers)


class HostGuard:
    """ASGI middleware: refuses foreign Host headers and adds the security headers to every response."""

    def __init__(self, app, access: Access):
        self.app, self.access = app, access

    async def __call__(self, scope, receive, send) -> None:
        async def send_with_headers(message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        app = self.app
        if scope["type"] == "http" and not self.access.allows_host(Headers(scope=scope).get("host", "")):
            app = error_response(ApiError(403, "this Host header is not allowed", code="host_not_allowed"))
        await app(scope, receive, send_with_headers)


class KeyGuard:
    """ASGI middleware: everything under /v1 needs the API key, if there is one."""

    def __init__(self, app, access: Access):
        self.app, self.access = app, access

    async def __call__(self, scope, receive, send) -> None:
        app, authorization = self.app, Headers(scope=scope).get("authorization", "")
        if scope["path"].startswith("/v1") and not self.access.allows_key(authorization):
            message = "the API key is missing or wrong; send it as `Authorization: Bearer KEY`"
            headers = {"WWW-Authenticate": "Bearer"}
            app = error_response(ApiError(401, message, code="invalid_api_key", headers=headers))
        await app(scope, receive, send)
