"""FastAPI dependencies as `authenticate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, Header, HTTPException, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from agentrunner.server import Principal, create_app
from support.agents import agent_with
from support.inputs import make_input
from support.wire import client

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

pytestmark = pytest.mark.fault("C12")


async def check_user(x_user: Annotated[str | None, Header()] = None) -> str:
    if x_user is None:
        raise HTTPException(418, "who are you?", {"x-hint": "x-user"})
    return x_user


def by_default(user: str = Depends(check_user)) -> Principal:
    return Principal(user)


async def by_annotation(user: Annotated[str, Depends(check_user)]) -> Principal | None:
    return Principal(user) if user != "nobody" else None


def by_token(token: HTTPAuthorizationCredentials = Security(HTTPBearer())) -> Principal:  # noqa: B008
    return Principal(token.credentials)


@pytest.mark.parametrize("authenticate", [by_default, by_annotation, Depends(by_default), Depends(by_annotation)])
async def test_a_dependency_decides_who_sees_what(
    authenticate: Any, memory_factory: Callable[..., AgentRunner]
) -> None:
    app = create_app(memory_factory(), {"default": agent_with()}, authenticate=authenticate)
    async with client(app) as http:
        for path in ("/threads", "/info", "/metrics", "/openapi.json"):
            answer = await http.get(path)
            assert (answer.status_code, answer.headers["x-hint"]) == (418, "x-user"), path
            assert answer.json() == {"detail": "who are you?"}
        for user in ("ann", "bob"):
            answer = await http.post("/agent/default/run", json=make_input(user, user), headers={"x-user": user})
            assert answer.status_code == 200
            threads = (await http.get("/threads", headers={"x-user": user})).json()["threads"]
            assert [thread["id"] for thread in threads] == [user]
        if authenticate is by_annotation:
            assert (await http.get("/threads", headers={"x-user": "nobody"})).status_code == 401


async def test_a_security_scheme_reads_the_request(memory_factory: Callable[..., AgentRunner]) -> None:
    app = create_app(memory_factory(), {"default": agent_with()}, authenticate=by_token)
    async with client(app) as http:
        assert (await http.get("/threads")).status_code in (401, 403)
        assert (await http.get("/threads", headers={"authorization": "Bearer ann"})).status_code == 200
