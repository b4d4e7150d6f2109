"""Which server is asked, and the key that it wants; both come from the environment."""

import ipaddress
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import openai

from apc_cli.errors import ConfigError

KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"
POLICY_KEY_VARIABLE = "APC_POLICY_API_KEY"
"""The key of a server of the role-play model's own: the teacher's is not sent there."""
_DEFAULT_URL = "https://api.openai.com/v1"
_SHORTEST_SECRET = 12


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server.

    Attributes:
        url: the root of its API, as `https://host/v1`.
        name: scheme, host and port, fit for messages.
        key: the secret; servers on this machine may do without one.
        variable: where the secret comes from.
        section: the part of the configuration that says which server and model.
    """

    url: str
    name: str
    key: str = field(repr=False)
    variable: str = KEY_VARIABLE
    section: str = "teacher"

    @property
    def is_local(self) -> bool:
        """True for a server on this machine."""
        return _is_loopback(urlsplit(self.url).hostname or "")

    def client(self, timeout: float) -> openai.AsyncOpenAI:
        """A client that follows no redirect and never retries by itself."""
        http = openai.DefaultAsyncHttpxClient(
            follow_redirects=False, timeout=timeout, trust_env=not self.is_local
        )
        return openai.AsyncOpenAI(
            api_key=self.key or "none",
            base_url=self.url,
            max_retries=0,
            timeout=timeout,
            http_client=http,
        )

    def without_secret(self, text: str) -> str:
        """The text with the key blanked; placeholders such as "none" are too short to be secret."""
        if len(self.key) < _SHORTEST_SECRET:
            return text
        return text.replace(self.key, f"[{self.variable}]")


def policy_endpoint(base_url: str | None, *, insecure: bool) -> Endpoint:
    """The role-play model's server; one of its own has a key of its own.

    Raises:
        ConfigError: the key is missing or the address cannot be used.
    """
    variable = POLICY_KEY_VARIABLE if base_url else KEY_VARIABLE
    return endpoint_from_environment(
        base_url, insecure=insecure, variable=variable, section="policy"
    )


def endpoint_from_environment(
    base_url: str | None = None,
    *,
    insecure: bool = False,
    variable: str = KEY_VARIABLE,
    section: str = "teacher",
) -> Endpoint:
    """The server at `base_url`, else at $OPENAI_BASE_URL, else OpenAI's own.

    Args:
        base_url: the configured address; it wins over the environment.
        insecure: allow the key to travel over plain http to another machine.
        variable: where the key is.
        section: the part of the configuration that names the server.

    Raises:
        ConfigError: the key is missing or the address cannot be used.
    """
    url = base_url or address_in_environment()
    name, host, scheme = _address(url, section)
    key = os.environ.get(variable, "").strip()
    if not key and not _is_loopback(host):
        raise ConfigError(
            f"{variable} is not set",
            "export it, or run without an LLM: --profile offline",
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"{variable} contains characters that no key has", "copy it again")
    if scheme == "http" and not _is_loopback(host) and not insecure:
        raise ConfigError(
            f"{name} would receive {variable} unencrypted",
            "use https, or reach the server through a tunnel at 127.0.0.1",
        )
    return Endpoint(url, name, key, variable, section)


def address_in_environment() -> str:
    """The server at $OPENAI_BASE_URL, else OpenAI's own."""
    return os.environ.get(URL_VARIABLE, "").strip() or _DEFAULT_URL


def _address(url: str, section: str) -> tuple[str, str, str]:
    """Name for messages (without user and password), host, and scheme."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigError(
            "the base URL of the LLM server is not an http(s) address",
            f"{section}.base_url or {URL_VARIABLE} should look like {_DEFAULT_URL}",
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else ""), host, parts.scheme


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
