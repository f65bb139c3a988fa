"""The gRPC side in this process, with a real client: deadlines, metadata, the access log, traces and counts."""

import asyncio

import grpc
import pytest
from tests.unit.serving.parts import Desk, House, engine_with
from tests.unit.wire.test_tracing import PARENT, traced  # noqa: F401 - a fixture

from trimtab.adapters.wire.accesslog import access_line
from trimtab.adapters.wire.grpc_calls import CallWatch
from trimtab.adapters.wire.grpc_messages import SERVICE, protocol
from trimtab.adapters.wire.grpc_plane import GrpcPlane
from trimtab.serving.counted import counted
from trimtab.serving.meter import LocalCells, Meter

REQUEST, RESPONSE = (protocol().messages[f"ModelInfer{kind}"] for kind in ("Request", "Response"))
PATH = f"/{SERVICE}/ModelInfer"


class Sink(list):
    def add(self, done):
        self.append(done)


class Served:
    """A plane that answers when it is told to, or by itself."""

    def __init__(self, sinks=(), *, answers=True, **more):
        house = House()
        house.add("a", 10)
        house.add("b", 20)
        engine = engine_with(house, ("champion", "a", 1.0), ("shadow", "b", 0.0))
        self.desk = Desk(engine, **more)
        self.cells = LocalCells()
        self.meter = Meter(self.cells)
        self.desk.dispatcher.settling.watcher = self.meter
        watch = CallWatch(
            self.meter, handing=self.desk.dispatcher.settling, timer=engine.pipeline.timer, clock=self.desk.clock,
            new_id=lambda: "made", sinks=sinks,
        )  # fmt: skip
        step = self.desk.dispatcher.step

        def wake():
            if answers:
                asyncio.get_running_loop().call_soon(step)

        self.plane = GrpcPlane(self.desk.dispatcher, wake=wake, watch=watch, software="test")

    def asked(self, *calls):
        """Results of coroutines that are given the channel; errors as they are."""

        async def everything():
            port = await self.plane.start("127.0.0.1", 0, max_body=10_000, max_waiting=10, drain_s=1)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                found = [(await asyncio.gather(call(channel), return_exceptions=True))[0] for call in calls]
            await self.plane.stop()
            return found

        return asyncio.run(everything())

    def calls(self):
        samples = counted(self.cells.blocks).counters.get("trimtab_grpc_calls_total", {})
        return {tuple(dict(labels).values()): count for labels, count in samples.items()}


def infer(*, timeout=5, metadata=(), message=None, **more):
    if message is None:
        message = REQUEST(model_name="m", raw_input_contents=[b"\0\0\x80?" * 2], **more)
        message.inputs.add(name="features", datatype="FP32", shape=[1, 2])
    data = message if isinstance(message, bytes) else message.SerializeToString()

    async def call(channel):
        made = channel.unary_unary(PATH)(data, timeout=timeout, metadata=metadata)
        answer = await made
        return RESPONSE.FromString(answer), dict(await made.trailing_metadata())

    return call


def test_a_call_is_answered_counted_and_logged():
    sink = Sink()
    served = Served([sink])
    ((answer, trailing),) = served.asked(infer(id="r", metadata=[("x-request-id", "mine"), ("traceparent", PARENT)]))
    assert (answer.model_version, answer.id) == ("a", "r")
    assert trailing["x-request-id"] == "mine"
    (done,) = sink
    assert (done.request_id, done.grpc, done.status, done.path) == ("mine", "OK", 200, PATH)
    assert (done.model, done.version, done.arm, done.rows) == ("m", "a", "champion", 1)
    assert list(done.stages)[:2] == ["decode", "queue"]
    assert done.traceparent == PARENT
    line = access_line(done).decode()
    assert '"grpc":"OK"' in line
    assert f'"path":"{PATH}"' in line
    assert served.calls() == {("ModelInfer", "OK"): 1}
    assert served.meter.in_flight == 0


def test_an_id_that_cannot_stand_in_a_log_is_replaced():
    sink = Sink()
    ((_, trailing),) = Served([sink]).asked(infer(metadata=[("x-request-id", "a b{}")]))
    assert trailing["x-request-id"] == "made" == sink[0].request_id


@pytest.mark.parametrize(
    ("given", "code", "status"),
    [
        (infer(message=b"\xff"), "INVALID_ARGUMENT", 400),
        (infer(message=REQUEST(model_name="none")), "NOT_FOUND", 404),
        (infer(model_version="none"), "NOT_FOUND", 404),
        (infer(metadata=[("x-trimtab-deadline-ms", "soon")]), "INVALID_ARGUMENT", 400),
        (infer(metadata=[("x-trimtab-deadline-ms", "0")]), "INVALID_ARGUMENT", 400),
        (infer(metadata=[("x-trimtab-arm", "none")]), "NOT_FOUND", 404),
    ],
)
def test_a_refusal_is_counted_and_logged(given, code, status):
    sink = Sink()
    served = Served([sink])
    (error,) = served.asked(given)
    assert error.code().name == code
    assert dict(error.trailing_metadata())["x-request-id"] == "made"
    assert (sink[0].grpc, sink[0].status, sink[0].model) == (code, status, "")
    assert served.calls() == {("ModelInfer", code): 1}
    refused = counted(served.cells.blocks).counters["trimtab_requests_refused_total"]
    assert sum(refused.values()) == 1
    assert {dict(labels)["model"] for labels in refused} <= {"m", ""}


def test_a_call_past_its_deadline_is_neither_computed_nor_recorded():
    sink = Sink()
    served = Served([sink], answers=False)
    (error,) = served.asked(infer(timeout=1.0))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    (ask,) = (piece.waiter for piece in served.desk.dispatcher.queue.take()[1])
    assert 0 < ask.expires - ask.came < 1_100_000_000  # two clocks: that of gRPC and ours
    assert served.desk.records.rows == []
    assert [done.grpc for done in sink] in (["DEADLINE_EXCEEDED"], ["CANCELLED"])


def test_the_shorter_of_both_deadlines_holds_and_units_and_arms_are_obeyed():
    served = Served(answers=False)

    async def waited(channel):
        calls = [
            asyncio.ensure_future(infer(timeout=timeout, metadata=metadata, id=name)(channel))
            for name, timeout, metadata in (
                ("header", 30, [("x-trimtab-deadline-ms", "250"), ("x-trimtab-unit", "u1")]),
                ("call", 50, [("x-trimtab-deadline-ms", "60000")]),
                ("none", None, []),
                ("arm", None, [("x-trimtab-arm", "shadow")]),
            )
        ]
        while len(served.desk.dispatcher.queue) < 4:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        taken = []
        while len(served.desk.dispatcher.queue):
            taken += [piece.waiter for piece in served.desk.dispatcher.queue.take()[1]]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        return {ask.ids[0]: ask for ask in taken}

    (found,) = served.asked(waited)
    assert found["header"].expires - found["header"].came == 250_000_000
    assert found["header"].units == ["u1"]
    assert 20e9 < found["call"].expires - found["call"].came < 51e9  # the library rounds up
    assert found["none"].expires == 0
    assert found["arm"].lane.version == "b"


def test_the_servers_own_deadline_is_said_as_such():
    served = Served(answers=False, deadline_ms=1)

    async def later(channel):
        call = asyncio.ensure_future(infer(timeout=None)(channel))
        while not len(served.desk.dispatcher.queue):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        for _ in range(200):  # the timer ticks when it is asked
            served.desk.dispatcher.engine.pipeline.timer()
        served.desk.dispatcher.step()
        return await call

    (error,) = served.asked(later)
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert served.calls() == {("ModelInfer", "DEADLINE_EXCEEDED"): 1}


def test_a_caller_who_leaves_is_written_down():
    sink = Sink()
    served = Served([sink], answers=False)

    async def leaves(channel):
        call = asyncio.ensure_future(infer(timeout=None)(channel))
        while not len(served.desk.dispatcher.queue):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        while not sink:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)

    served.asked(leaves)
    assert [(done.grpc, done.status) for done in sink] == [("CANCELLED", 499)]
    assert served.meter.in_flight == 0


def test_a_full_queue_says_when_to_come_back():
    served = Served(answers=False, max_queue=1)

    async def second(channel):
        first = asyncio.ensure_future(infer(timeout=None)(channel))
        while not len(served.desk.dispatcher.queue):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        try:
            return await infer()(channel)
        finally:
            first.cancel()

    (error,) = served.asked(second)
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"


def test_a_call_is_a_span_in_the_callers_trace(traced):  # noqa: F811 - a fixture
    traces, exporter = traced(0.0)
    Served([traces]).asked(infer(metadata=[("traceparent", PARENT)]), infer(), infer(model_version="none"))
    spans = {span.name: span for span in exporter.get_finished_spans()}
    call = spans[PATH[1:]]
    assert f"{call.context.trace_id:032x}" == PARENT[3:35]
    assert call.kind.name == "SERVER"
    assert call.attributes["rpc.system"] == "grpc"
    assert call.attributes["rpc.method"] == "ModelInfer"
    assert call.attributes["rpc.grpc.status_code"] == 0
    assert call.attributes["trimtab.version"] == "a"
    assert spans["infer"].parent.span_id == call.context.span_id
    assert len([span for span in exporter.get_finished_spans() if span.name == PATH[1:]]) == 1
