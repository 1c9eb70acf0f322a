"""Tools: typed functions that a model can call."""

from __future__ import annotations

import asyncio
import functools
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, overload

import orjson
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema

from agentrunner._codec import dump
from agentrunner.errors import ToolNameClash
from agentrunner.runtime.llm import ToolSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Policy: TypeAlias = Literal["allow", "ask", "deny"]
"""Policy for a call: it runs, it runs once it is approved, or it does not run."""


class InvalidArguments(ValueError):
    """The arguments of a call do not match the tool's parameters; the text is for the model."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of the model."""

    id: str
    """Id of the call, unique in its session."""
    name: str
    arguments: str
    """JSON text as the model wrote it, or as middleware changed it."""
    client: bool = False
    """Whether the tool runs in the client."""
    offered: bool = True
    """Whether the request offered this tool to the model."""
    decision: dict[str, Any] | None = None
    """An approver's decision: `approved`, and `editedArgs`, `reason` and `remember` where it has them."""
    result: dict[str, Any] | None = None
    """The message with a client's result, if it arrived while other calls of the turn waited for approval."""
    sealed: str | None = None
    """Data the provider wants back with the call, which becomes its `encryptedValue`."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool call. A tool may return one to report an error without raising.

    Example:
        return ToolResult("The order does not exist.", error="no such order")
    """

    content: str
    """Text for the model."""
    error: str | None = None
    """Reason of a failure; `None` if the call succeeded."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Data for clients, which the model does not see."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The session, run and attempt of a tool call.

    A parameter annotated with this type receives it, and the model does not see that parameter.

    Example:
        async def charge(order: str, context: ToolContext) -> str:
            return await bank.charge(order, idempotency_key=context.idempotency_key)
    """

    session_id: str
    run_id: str
    tool_call_id: str
    idempotency_key: str
    """Key that every attempt at this call has and no other call has, for services that deduplicate by key."""
    attempt: int
    """Number of this attempt: 1, or more if the tool is idempotent and a process died during an earlier attempt."""


class _Schema(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        # A title that repeats the name costs tokens and tells the model nothing.
        return False


class Tool:
    """A function that a model can call.

    The model receives its name, its docstring and the schema of its parameters. A sync function runs in a thread, which
    a cancelled run does not wait for; an async function runs on the event loop.

    Args:
        function: The function to call. Every parameter must be usable as a keyword argument.
        name: Name for the model; by default the function's.
        description: Description for the model; by default the function's docstring.
        policy: Policy for calls that the runtime's `tool_policy` has no rule for.
        concurrent: Whether a call may run at the same time as calls of other concurrent tools.
        idempotent: Whether a call whose outcome is unknown after a crash may run again, under the same
            idempotency key. If false, the model learns that the outcome is unknown.
        timeout: Seconds that a call may take; `None` sets no limit.
        action_key: Computes from a call's arguments the name under which an approval is remembered. By default that
            is the tool with all of its arguments.

    Raises:
        TypeError: If a parameter cannot be passed by keyword, or has a type that JSON cannot be read into.

    Example:
        Tool(refund, policy="ask", timeout=10.0)
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        policy: Policy = "allow",
        concurrent: bool = False,
        idempotent: bool = False,
        timeout: float | None = None,
        action_key: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        self.function = function
        named = function.func if isinstance(function, functools.partial) else function
        self.name: str = name or str(getattr(named, "__name__", type(named).__name__))
        self.policy = policy
        self.concurrent = concurrent
        self.idempotent = idempotent
        self.timeout = timeout
        self.action_key = action_key
        self._context_parameters: list[str] = []
        try:
            self._arguments = self._build_model(function)
            parameters = self._arguments.model_json_schema(schema_generator=_Schema)
        except PydanticUserError as error:
            raise TypeError(f"tool '{self.name}': {error}") from error
        parameters.pop("title", None)
        parameters.setdefault("properties", {})
        text = description if description is not None else inspect.getdoc(named) or ""
        self.spec = ToolSpec(self.name, text, parameters)
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object whose `__call__` is async
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, without validation."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"

    def _build_model(self, function: Callable[..., Any]) -> type[BaseModel]:
        try:
            signature = inspect.signature(function, eval_str=True)
        except (NameError, ValueError) as error:
            raise TypeError(f"tool '{self.name}': its signature cannot be read: {error}") from error
        fields: dict[str, Any] = {}
        for number, parameter in enumerate(signature.parameters.values()):
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(
                    f"tool '{self.name}': a model passes arguments by keyword, and the parameter '{parameter}'"
                    " does not accept that"
                )
            if parameter.annotation is ToolContext:
                self._context_parameters.append(parameter.name)
                continue
            annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
            default = ... if parameter.default is parameter.empty else parameter.default
            # The field has an alias because a parameter's name may clash with an attribute of pydantic's models, or
            # begin with an underscore, which pydantic refuses.
            fields[f"field_{number}"] = (Annotated[annotation, Field(alias=parameter.name)], default)
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
        return create_model(self.name, __config__=config, **fields)

    def validate(self, arguments: str) -> dict[str, Any]:
        """Return a call's arguments as Python values.

        Raises `InvalidArguments`, whose text tells the model what is wrong.
        """
        try:
            model = self._arguments.model_validate_json(arguments or "{}")
            # Pydantic also accepts text that is not JSON, such as NaN; stored arguments must be JSON.
            orjson.loads(arguments or "{}")
        except orjson.JSONDecodeError as error:
            raise InvalidArguments(f"The arguments of '{self.name}' do not fit: Invalid JSON: {error}") from None
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}" for problem in error.errors()
            )
            raise InvalidArguments(f"The arguments of '{self.name}' do not fit: {problems}") from None
        return {field.alias or name: getattr(model, name) for name, field in type(model).model_fields.items()}

    async def call(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """Call the function with validated arguments, and return its result as text.

        Raises what the function raises, `TimeoutError`, and `ValueError` for a result JSON cannot express.
        """
        arguments = arguments | dict.fromkeys(self._context_parameters, context)
        try:
            async with asyncio.timeout(self.timeout):
                if self._is_async:
                    value = await self.function(**arguments)
                else:
                    value = await asyncio.to_thread(self._call_in_thread, arguments)
                    if inspect.isawaitable(value):
                        value = await value
        except SystemExit as error:
            # `sys.exit()` in a tool must end the call, not the process.
            raise RuntimeError(f"SystemExit {error}") from error
        if isinstance(value, ToolResult):
            return value
        return ToolResult(value if isinstance(value, str) else dump(value).decode())

    def _call_in_thread(self, arguments: dict[str, Any]) -> Any:
        try:
            return self.function(**arguments)
        except StopIteration as error:
            # A future refuses StopIteration, so the caller would wait forever.
            raise RuntimeError(f"StopIteration {error}".strip()) from error


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(**options: Any) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Turn a function into a `Tool`, as a decorator with or without options.

    Args:
        function: The function, if the decorator has no options.
        **options: The options of `Tool`.

    Returns:
        The tool, or a decorator that makes one.

    Raises:
        TypeError: As `Tool` does.

    Example:
        @tool(policy="ask")
        async def refund(order: str, euros: float) -> str:
            "Refund an order."
            return await bank.refund(order, euros)
    """
    if function is not None:
        return Tool(function)
    return lambda function: Tool(function, **options)


def make_tool(function: Tool | Callable[..., Any]) -> Tool:
    """Return a `Tool` as it is and anything else as a new `Tool`. Raises `TypeError`."""
    return function if isinstance(function, Tool) else Tool(function)


def tools_by_name(tools: Iterable[Tool | Callable[..., Any]]) -> dict[str, Tool]:
    """Return tools by name. Raises `TypeError` and `ToolNameClash`."""
    by_name: dict[str, Tool] = {}
    for each in tools:
        tool = make_tool(each)
        if by_name.setdefault(tool.name, tool) is not tool:
            raise ToolNameClash(tool.name, "the runtime", "the runtime")
    return by_name
