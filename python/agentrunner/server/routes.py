"""The route table: one row for each path and method of CopilotKit's runtime.

The paths are those of docs/spec/http.md §4.2. To add a route, write its handler and add a row. Dispatch, the API's
description and the tests read the rows; metrics and logs use the name of a request's row. If two paths match a
request, the first one wins.
"""

from __future__ import annotations

from agentrunner.server import info, runs, threads, transcribe
from agentrunner.server.routing import ApiRoute, RouteTable
from agentrunner.server.schemas import (
    AGENT_REFERENCE,
    CURSOR_HEADER,
    EVENT_STREAM,
    LIST,
    LIST_PARAMETERS,
    OBJECT,
    STOP_REQUEST,
    THREAD,
    THREAD_CHANGE,
    describe_connect_input,
    describe_json,
    describe_object,
    describe_run_input,
)

ROUTES = RouteTable(
    [
        ApiRoute(
            name="info",
            method="GET",
            path="/info",
            handler=info.get_info,
            summary="Describe the server and its agents",
            responses={"200": describe_json("Agents and abilities", OBJECT)},
        ),
        ApiRoute(
            name="inspector/metadata",
            method="GET",
            path="/inspector-metadata",
            handler=info.get_inspector_metadata,
            summary="Answer a request of CopilotKit's inspector for data of the paid service",
        ),
        ApiRoute(
            name="inspector/learning",
            method="GET",
            path="/inspector-learning",
            handler=info.get_inspector_metadata,
            summary="Answer a request of CopilotKit's inspector for data of the paid service",
        ),
        ApiRoute(
            name="transcribe",
            method="POST",
            path="/transcribe",
            handler=transcribe.transcribe_audio,
            summary="Transcribe a recording",
        ),
        ApiRoute(
            name="agent/run",
            method="POST",
            path="/agent/{agentId}/run",
            handler=runs.run_agent,
            summary="Start a run and stream it",
            body=describe_run_input,
            responses=EVENT_STREAM,
        ),
        ApiRoute(
            name="agent/suggest",
            method="POST",
            path="/agent/{agentId}/suggest",
            handler=runs.suggest,
            summary="Run an agent without storing anything",
            body=describe_run_input,
            responses=EVENT_STREAM,
        ),
        ApiRoute(
            name="agent/connect",
            method="POST",
            path="/agent/{agentId}/connect",
            handler=runs.connect_thread,
            summary="Stream a thread from its start, or resume after a cursor",
            body=describe_connect_input,
            parameters=[CURSOR_HEADER],
            responses=EVENT_STREAM,
        ),
        ApiRoute(
            name="agent/stop",
            method="POST",
            path="/agent/{agentId}/stop/{threadId}",
            handler=runs.stop_run,
            summary="Stop the live run of a thread",
            body=STOP_REQUEST,
            responses={"200": describe_json("Whether a run was stopped", describe_object(stopped={"type": "boolean"}))},
        ),
        ApiRoute(
            name="threads/subscribe",
            method="POST",
            path="/threads/subscribe",
            handler=threads.refuse_subscription,
            summary="Refuse to subscribe to thread changes",
        ),
        ApiRoute(
            name="threads/messages",
            method="GET",
            path="/threads/{threadId}/messages",
            handler=threads.get_messages,
            summary="Return the messages of a thread",
            responses={"200": describe_json("Messages", describe_object(messages=LIST))},
        ),
        ApiRoute(
            name="threads/events",
            method="GET",
            path="/threads/{threadId}/events",
            handler=threads.get_events,
            summary="Return the compacted events of a thread",
            responses={"200": describe_json("Events", describe_object(events=LIST))},
        ),
        ApiRoute(
            name="threads/state",
            method="GET",
            path="/threads/{threadId}/state",
            handler=threads.get_state,
            summary="Return the state of a thread",
            responses={"200": describe_json("State", describe_object(state={}))},
        ),
        ApiRoute(
            name="threads/archive",
            method="POST",
            path="/threads/{threadId}/archive",
            handler=threads.archive_thread,
            summary="Archive a thread",
            body=AGENT_REFERENCE,
            responses={"200": describe_json("Done", describe_object(archived={"const": True}))},
        ),
        ApiRoute(
            name="threads/clear",
            method="POST",
            path="/threads/clear",
            handler=threads.clear_threads,
            summary="Delete all threads of the caller that are not running",
            responses={"204": {"description": "Done"}},
        ),
        ApiRoute(
            name="threads/update",
            method="PATCH",
            path="/threads/{threadId}",
            handler=threads.update_thread,
            summary="Rename, archive or unarchive a thread",
            body=THREAD_CHANGE,
            responses={"200": describe_json("The thread", THREAD)},
        ),
        ApiRoute(
            name="threads/update",
            method="DELETE",
            path="/threads/{threadId}",
            handler=threads.delete_thread,
            summary="Delete a thread",
            body=AGENT_REFERENCE,
            responses={"200": describe_json("Done", describe_object(deleted={"const": True}))},
        ),
        ApiRoute(
            name="threads/list",
            method="GET",
            path="/threads",
            handler=threads.list_threads,
            summary="List threads, the most recently used first",
            parameters=LIST_PARAMETERS,
            responses={
                "200": describe_json(
                    "A page of threads",
                    describe_object(threads=LIST | {"items": THREAD}, nextCursor={"type": ["string", "null"]}),
                )
            },
        ),
    ]
)
