"""The request headers that agents see (docs/spec/http.md §4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.datastructures import Headers

_DENIED = frozenset(
    {
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-server",
        "x-real-ip",
        "x-amzn-trace-id",
        "x-amz-cf-id",
        "x-cloud-trace-context",
        "x-cache",
        "x-served-by",
        "x-request-id",
        "x-copilotcloud-public-api-key",
    }
)
_DENIED_PREFIXES = ("x-amz-", "x-azure-", "x-fastly-", "x-vercel-", "x-middleware-", "x-copilotcloud-")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardHeaders:
    """The choice of request headers that agents see: by default `authorization` and `x-*`.

    Headers that proxies and platforms add are left out. Names are case-insensitive; blank names are ignored.

    Args:
        use_default_denylist: Leave out the headers that proxies and platforms add.
        deny: Names to leave out too; it overrides all other options.
        deny_prefixes: Prefixes of names to leave out too; it overrides all other options.
        allow: Forward these names and no others, even if the default denylist has them.

    Example:
        create_app(runner, agents, forward_headers=ForwardHeaders(allow=["authorization", "accept-language"]))

    """

    use_default_denylist: bool = True
    deny: Sequence[str] = ()
    deny_prefixes: Sequence[str] = ()
    allow: Sequence[str] = ()

    def select(self, headers: Headers) -> dict[str, str]:
        """Return the headers to forward, with names in lower case."""
        deny, prefixes, allow = _normalize(self.deny), tuple(_normalize(self.deny_prefixes)), _normalize(self.allow)

        def is_forwarded(name: str) -> bool:
            if name in deny or name.startswith(prefixes):
                return False
            if allow:
                return name in allow
            if self.use_default_denylist and (name in _DENIED or name.startswith(_DENIED_PREFIXES)):
                return False
            return name == "authorization" or name.startswith("x-")

        return {name: ", ".join(headers.getlist(name)) for name in headers if is_forwarded(name)}


def _normalize(names: Sequence[str]) -> list[str]:
    return [name.strip().lower() for name in names if name.strip()]
