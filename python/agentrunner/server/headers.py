"""Which of a request's headers an agent gets to see (docs/spec/http.md §4.4)."""

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
    """`authorization` and `x-*` go to the agent, without what proxies and platforms add.

    `deny` and `deny_prefixes` take away more, always. `allow`: only these, and then also what is denied by default.
    Names in any case; blank ones are ignored.
    """

    use_default_denylist: bool = True
    deny: Sequence[str] = ()
    deny_prefixes: Sequence[str] = ()
    allow: Sequence[str] = ()

    def of(self, headers: Headers) -> dict[str, str]:
        """Give those of the headers that are forwarded, with names in lower case."""
        deny, prefixes, allow = _clean(self.deny), tuple(_clean(self.deny_prefixes)), _clean(self.allow)

        def forwarded(name: str) -> bool:
            if name in deny or name.startswith(prefixes):
                return False
            if allow:
                return name in allow
            if self.use_default_denylist and (name in _DENIED or name.startswith(_DENIED_PREFIXES)):
                return False
            return name == "authorization" or name.startswith("x-")

        return {name: ", ".join(headers.getlist(name)) for name in headers if forwarded(name)}


def _clean(names: Sequence[str]) -> list[str]:
    return [name.strip().lower() for name in names if name.strip()]
