"""A run is an OpenTelemetry span, the agent's own spans its children."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from support.events import run_finished, run_started
from support.inputs import make_input
from support.streams import collect


@pytest.fixture(scope="module")
def exported():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # A process can set only one provider; no other test looks at spans.
    trace.set_tracer_provider(provider)
    return exporter


async def test_the_span_of_a_run_is_between_those_of_caller_and_agent(runner, exported):
    exported.clear()
    tracer = trace.get_tracer("test")

    async def agent(input):
        yield run_started()
        with tracer.start_as_current_span("model"):
            pass
        yield run_finished()

    with tracer.start_as_current_span("request"):
        stream = await runner.run(agent, make_input())
    await collect(stream)
    spans = {span.name: span for span in exported.get_finished_spans()}
    assert set(spans) == {"request", "agentrunner.run", "model"}
    assert spans["agentrunner.run"].attributes == {"agentrunner.thread_id": "t1", "agentrunner.run_id": "r1"}
    assert spans["agentrunner.run"].parent.span_id == spans["request"].context.span_id
    assert spans["model"].parent.span_id == spans["agentrunner.run"].context.span_id


async def test_an_agent_that_fails_marks_its_span(runner, exported):
    exported.clear()

    async def agent(input):
        yield run_started()
        raise ValueError("boom")

    await collect(await runner.run(agent, make_input()))
    (span,) = exported.get_finished_spans()
    assert not span.status.is_ok
    assert "boom" in span.status.description
