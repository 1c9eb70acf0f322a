"""Tools: typed functions a model may call."""

from __future__ import annotations

import asyncio
import functools
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, overload

import orjson
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_json

from agentrunner.errors import ToolNameClash
from agentrunner.runtime.llm import ToolSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Policy: TypeAlias = Literal["allow", "ask", "deny"]
"""What may be done with a call: run it, run it once it is approved, or neither."""


class InvalidArguments(ValueError):
    """What a model called a tool with does not fit; the text is for the model."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model made."""

    id: str
    """One of its kind in the session."""
    name: str
    arguments: str
    """JSON, as the model wrote it, or as middleware or an approver changed it."""
    client: bool = False
    """Whether the tool is the client's."""
    offered: bool = True
    """Whether the model was told of the tool."""
    decision: dict[str, Any] | None = None
    """An approver's answer: `approved`, and `editedArgs`, `reason`, `remember`."""
    result: dict[str, Any] | None = None
    """The message with a client's result that came before the turn could go on."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What became of a call. A tool may return one, to say what went wrong without raising."""

    content: str
    """What the model is told."""
    error: str | None = None
    """Why the call failed."""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of its call: a parameter annotated with this type gets it, and the model does not see it."""

    session_id: str
    run_id: str
    tool_call_id: str
    idempotency_key: str
    """The same each time this call is run, and no other's: for services that do a thing once under a key."""
    attempt: int
    """1, or more where a process died while it ran the call before and the tool is idempotent."""


class _Schema(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        # A title that repeats a name is nothing to a model but tokens.
        return False


class Tool:
    """A function as a tool: its name, its docstring and the schema of its parameters are what the model is told.

    The function is sync (it gets a thread: a cancelled run does not wait for it) or async. `policy` is what may be done
    with a call where the runtime's `tool_policy` has no word. `concurrent`: whether it may run beside other such tools.
    `idempotent`: whether a call whose outcome is unknown after a crash may be run again, under the same idempotency
    key. `timeout` in seconds. `action_key` gives, from a call's arguments, the name under which an approval is
    remembered; without it that is the tool and all of its arguments. Raises `TypeError` for a function that cannot be
    called by names, or with types JSON cannot be read into.
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
        described = function.func if isinstance(function, functools.partial) else function
        self.name: str = name or str(getattr(described, "__name__", type(described).__name__))
        self.policy = policy
        self.concurrent = concurrent
        self.idempotent = idempotent
        self.timeout = timeout
        self.action_key = action_key
        self._context: list[str] = []
        try:
            self._arguments = self._read(function)
            parameters = self._arguments.model_json_schema(schema_generator=_Schema)
        except PydanticUserError as error:
            raise TypeError(f"tool '{self.name}': {error}") from error
        parameters.pop("title", None)
        parameters.setdefault("properties", {})
        text = description if description is not None else inspect.getdoc(described) or ""
        self.spec = ToolSpec(self.name, text, parameters)
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object whose `__call__` is async
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102 - as the function
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"

    def _read(self, function: Callable[..., Any]) -> type[BaseModel]:
        try:
            signature = inspect.signature(function, eval_str=True)
        except (NameError, ValueError) as error:
            raise TypeError(f"tool '{self.name}': its signature cannot be read: {error}") from error
        fields: dict[str, Any] = {}
        for number, parameter in enumerate(signature.parameters.values()):
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(
                    f"tool '{self.name}': a model gives arguments by name, which '{parameter}' does not take"
                )
            if parameter.annotation is ToolContext:
                self._context.append(parameter.name)
                continue
            kind = Any if parameter.annotation is parameter.empty else parameter.annotation
            default = ... if parameter.default is parameter.empty else parameter.default
            # By an alias: a parameter may be called what a model's attributes are, or begin with an underscore.
            fields[f"field_{number}"] = (Annotated[kind, Field(alias=parameter.name)], default)
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
        return create_model(self.name, __config__=config, **fields)

    def validate(self, arguments: str) -> dict[str, Any]:
        """Read a call's arguments. Raises `InvalidArguments`, whose text tells the model what is wrong."""
        try:
            model = self._arguments.model_validate_json(arguments or "{}")
            # Pydantic reads more than JSON has words for.
            orjson.loads(arguments or "{}")
        except orjson.JSONDecodeError as error:
            raise InvalidArguments(f"The arguments of '{self.name}' do not fit: Invalid JSON: {error}") from None
        except ValidationError as error:
            said = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}" for problem in error.errors()
            )
            raise InvalidArguments(f"The arguments of '{self.name}' do not fit: {said}") from None
        return {field.alias or name: getattr(model, name) for name, field in type(model).model_fields.items()}

    async def call(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """Run the function with arguments that were validated. Raises what it raises, `TimeoutError`, `ValueError`."""
        arguments = arguments | dict.fromkeys(self._context, context)
        try:
            async with asyncio.timeout(self.timeout):
                if self._is_async:
                    value = await self.function(**arguments)
                else:
                    value = await asyncio.to_thread(self._run, arguments)
                    if inspect.isawaitable(value):
                        value = await value
        except SystemExit as error:
            # It is the call that is to end, not the process.
            raise RuntimeError(f"SystemExit {error}") from error
        if isinstance(value, ToolResult):
            return value
        return ToolResult(value if isinstance(value, str) else to_json(value).decode())

    def _run(self, arguments: dict[str, Any]) -> Any:
        try:
            return self.function(**arguments)
        except StopIteration as error:
            # No future takes it: it would be waited for without end.
            raise RuntimeError(f"StopIteration {error}".strip()) from error


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(**options: Any) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a `Tool` of a function: `@tool`, or `@tool(policy="ask", ...)` with the options of `Tool`."""
    if function is not None:
        return Tool(function)
    return lambda function: Tool(function, **options)


def toolbox(tools: Iterable[Tool | Callable[..., Any]]) -> dict[str, Tool]:
    """Give tools by name. Raises `TypeError`, `ToolNameClash`."""
    made: dict[str, Tool] = {}
    for given in tools:
        one = given if isinstance(given, Tool) else Tool(given)
        if made.setdefault(one.name, one) is not one:
            raise ToolNameClash(one.name, "the runtime", "the runtime")
    return made
