"""Cross-origin requests: the headers of every response (the original's CORS tests)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.server import Cors
from support.agents import agent_with
from support.asgi import client_of
from support.events import text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import InMemoryAgentRunner
    from support.asgi import Answer, Client

    MemoryFactory = Callable[..., InMemoryAgentRunner]

AGENT = agent_with(*text_message("m1", "hello"))
PAGE, OTHER = "https://page.example", "https://other.example"
VARY = {"Access-Control-Request-Headers", "Access-Control-Request-Method"}


def serving(memory_factory: MemoryFactory, cors: Any, **options: Any) -> Client:
    return client_of(memory_factory(), {"default": AGENT}, cors=cors, **options)


def from_page(origin: str | None) -> dict[str, str]:
    return {} if origin is None else {"origin": origin}


def vary(answer: Answer) -> set[str]:
    return {name.strip() for name in answer.headers.get("vary", "").split(",") if name.strip()}


ANSWERS = [
    ("GET", "/info", None, 200), ("POST", "/agent/default/run", make_input(), 200),
    ("POST", "/agent/default/connect", make_input(), 200), ("POST", "/agent/default/stop/t", {}, 200),
    ("POST", "/agent/zzz/run", make_input(), 404), ("POST", "/agent/default/run", b"{", 400),
    ("GET", "/nothing", None, 404),
    ("PUT", "/info", {}, 405), ("GET", "/threads/t/events", None, 404), ("POST", "/threads/clear", {}, 204),
    ("POST", "/transcribe", {}, 503), ("GET", "/inspector-metadata", None, 204), ("GET", "/%zz", None, 404),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "content", "status"), ANSWERS)
@pytest.mark.parametrize("origin", [None, PAGE])
async def test_every_response_names_the_origins_that_may_read_it(
    origin: str | None, method: str, path: str, content: Any, status: int, memory_factory: MemoryFactory
) -> None:
    client = serving(memory_factory, True)
    answer = await client.send(method, path, content, headers=from_page(origin))
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" not in vary(answer)


@pytest.mark.parametrize(("method", "path", "content", "status"), ANSWERS)
@pytest.mark.parametrize("cors", [None, False])
async def test_without_cors_there_are_no_cors_headers(
    cors: Any, method: str, path: str, content: Any, status: int, memory_factory: MemoryFactory
) -> None:
    headers = from_page(PAGE) if method == "GET" else {}
    answer = await serving(memory_factory, cors).send(method, path, content, headers=headers)
    assert answer.status == status
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_a_server_error_has_cors_headers_as_well(memory_factory: MemoryFactory) -> None:
    class Stubborn:
        run = staticmethod(AGENT)

        def clone(self) -> Any:
            raise RuntimeError

    client = client_of(memory_factory(), {"default": Stubborn()}, cors=True)
    answer = await client.post("/agent/default/run", make_input())
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (500, "*")


# Preflights


@pytest.mark.parametrize("path", ["/agent/default/run", "/info", "/nothing", "/", "/%zz", "/threads/t/messages"])
async def test_any_preflight_is_answered(path: str, memory_factory: MemoryFactory) -> None:
    headers = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "x-a"}
    answer = await serving(memory_factory, True).send("OPTIONS", path, headers=headers)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD, PUT, POST, DELETE, PATCH, OPTIONS"
    assert answer.headers["access-control-allow-headers"] == "*"
    assert "access-control-max-age" not in answer.headers
    assert vary(answer) == VARY


async def test_a_preflight_has_the_configured_headers(memory_factory: MemoryFactory) -> None:
    cors = Cors(
        origin=PAGE, credentials=True, allow_methods=["GET", "POST"], allow_headers=["x-a", "x-b"],
        expose_headers=["x-c", "x-d"], max_age=600,
    )  # fmt: skip
    answer = await serving(memory_factory, cors).send("OPTIONS", "/info", headers=from_page(PAGE))
    cors_headers = {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}
    assert cors_headers == {
        "access-control-allow-origin": PAGE,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "x-a, x-b",
        "access-control-expose-headers": "x-c, x-d",
        "access-control-max-age": "600",
    }
    assert vary(answer) == {*VARY, "Origin"}


async def test_a_max_age_of_zero_is_sent(memory_factory: MemoryFactory) -> None:
    answer = await serving(memory_factory, Cors(max_age=0)).send("OPTIONS", "/info")
    assert answer.headers["access-control-max-age"] == "0"


async def test_a_preflight_needs_no_authentication(memory_factory: MemoryFactory) -> None:
    client = serving(memory_factory, True, authenticate=lambda _: None)
    assert (await client.send("OPTIONS", "/info", headers=from_page(PAGE))).status == 204
    answer = await client.get("/info", headers=from_page(PAGE))
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (401, "*")


async def test_a_preflight_from_a_forbidden_origin_names_no_origin(memory_factory: MemoryFactory) -> None:
    answer = await serving(memory_factory, Cors(origin=[OTHER])).send("OPTIONS", "/info", headers=from_page(PAGE))
    assert answer.status == 204
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/info", "/agent/default/run"])
async def test_without_cors_a_preflight_is_a_wrong_method(path: str, memory_factory: MemoryFactory) -> None:
    assert (await serving(memory_factory, None).send("OPTIONS", path, headers=from_page(PAGE))).status == 405


# The allowed origin


@pytest.mark.parametrize(
    ("origin", "asks", "plain", "with_credentials"),
    [
        (None, PAGE, "*", None), (None, None, "*", None), (None, "null", "*", None), ("", PAGE, "*", None),
        ("*", PAGE, "*", None), ("*", None, "*", None),
        (PAGE, PAGE, PAGE, PAGE), (PAGE, OTHER, PAGE, PAGE), (PAGE, None, PAGE, PAGE),
        ([PAGE], PAGE, PAGE, PAGE), ([PAGE, OTHER], OTHER, OTHER, OTHER), ([PAGE], OTHER, None, None),
        ([PAGE], None, None, None), ([], PAGE, None, None), ((), PAGE, None, None), (["*"], PAGE, "*", None),
        ([PAGE], PAGE.upper(), None, None), ([PAGE], PAGE + "/", None, None), ([PAGE], PAGE + ".evil", None, None),
        (lambda asks: asks, PAGE, PAGE, PAGE), (lambda _: None, PAGE, None, None), (lambda _: "", PAGE, None, None),
        (lambda _: OTHER, PAGE, OTHER, OTHER), (lambda _: "*", PAGE, "*", None), (lambda asks: asks, None, None, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("credentials", [False, True])
async def test_the_allowed_origin(
    credentials: bool,
    origin: Any,
    asks: str | None,
    plain: str | None,
    with_credentials: str | None,
    memory_factory: MemoryFactory,
) -> None:
    if credentials and origin in (None, "", "*", ["*"]):
        with pytest.raises(ValueError, match="needs the origins"):
            Cors(origin=origin, credentials=True)
        return
    expected = with_credentials if credentials else plain
    client = serving(memory_factory, Cors(origin=origin, credentials=credentials))
    for method, path in (("GET", "/info"), ("GET", "/nothing"), ("OPTIONS", "/info")):
        answer = await client.send(method, path, headers=from_page(asks))
        assert answer.headers.get("access-control-allow-origin") == expected
        allows = answer.headers.get("access-control-allow-credentials")
        assert allows == ("true" if credentials and expected is not None else None)
        # A cache must not send the response for one origin to another.
        assert ("Origin" in vary(answer)) == (expected not in (None, "*"))


async def test_the_headers_that_a_page_may_read(memory_factory: MemoryFactory) -> None:
    client = serving(memory_factory, Cors(expose_headers=["retry-after", "x-a"]))
    assert (await client.get("/info")).headers["access-control-expose-headers"] == "retry-after, x-a"


async def test_a_single_route_server_has_cors_headers_as_well(memory_factory: MemoryFactory) -> None:
    client = serving(memory_factory, True, mode="single-route")
    for content, status in (({"method": "info"}, 200), ({"method": "x"}, 400), (b"{", 400)):
        answer = await client.post("/", content, headers=from_page(PAGE))
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, "*")
    assert (await client.send("OPTIONS", "/")).status == 204


@pytest.mark.parametrize(
    ("cors", "origin", "status"),
    [
        (None, PAGE, 403), (True, PAGE, 204), (Cors(origin=PAGE), PAGE, 204), (Cors(origin=PAGE), OTHER, 403),
        (Cors(origin=[PAGE]), PAGE, 204), (Cors(origin=[PAGE]), OTHER, 403), (Cors(origin=[PAGE]), None, 403),
        (Cors(origin=[]), PAGE, 403), (Cors(origin=lambda _: None), PAGE, 403),
        (Cors(origin=lambda _: None), None, 403), (Cors(origin=[PAGE]), "null", 403),
    ],
)  # fmt: skip
async def test_the_page_of_another_site_can_change_nothing_unless_it_is_allowed(
    cors: Any, origin: str | None, status: int, memory_factory: MemoryFactory
) -> None:
    client = serving(memory_factory, cors)
    headers = from_page(origin) | {"sec-fetch-site": "cross-site"}
    assert (await client.post("/threads/clear", {}, headers=headers)).status == status
