"""Routes for operators: health, metrics, the API description and the inspector."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse
from starlette.routing import Route

from agentrunner.server.auth import authenticate_request
from agentrunner.server.inspector import get_inspector
from agentrunner.server.openapi import build_openapi
from agentrunner.server.responses import ApiError, ApiResponse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from agentrunner.server.context import AppContext

logger = logging.getLogger("agentrunner.server")

READY_SECONDS = 5
"""Seconds that the store may take to answer before the server counts as not ready."""


def build_service_routes(context: AppContext, *, inspector: bool) -> list[Route]:
    """Return the routes for operators; with `inspector` also those of its page."""

    async def get_health(_: Request) -> Response:
        return ApiResponse({"status": "ok"})

    async def get_readiness(_: Request) -> Response:
        try:
            async with asyncio.timeout(READY_SECONDS):
                store = await context.runner.ensure_open()
                await store.live("")
        except Exception:
            # Log the details; this route is open to all, and the response must not reveal the store's address.
            logger.exception("the store cannot be read, so the server is not ready")
            return ApiResponse({"status": "unavailable"}, 503)
        if context.runner.is_draining:
            return ApiResponse({"status": "draining"}, 503)
        return ApiResponse({"status": "ok"})

    async def get_metrics(request: Request) -> Response:
        try:
            await authenticate_request(request, context.authenticate)
        except ApiError as error:
            return error.to_response()
        return context.metrics.to_response()

    async def get_openapi(request: Request) -> Response:
        # The document names the agents.
        try:
            await authenticate_request(request, context.authenticate)
        except ApiError as error:
            return error.to_response()
        return ApiResponse(build_openapi(context))

    async def redirect_to_inspector(_: Request) -> Response:
        # Relative, so that it works under any mount.
        return RedirectResponse("inspector")

    routes = [
        Route("/healthz", get_health),
        Route("/readyz", get_readiness),
        Route("/metrics", get_metrics),
        Route("/openapi.json", get_openapi),
    ]
    if inspector:
        routes += [Route("/", redirect_to_inspector), Route("/inspector", get_inspector)]
    return routes
