"""``trimtab up --grpc-port``: every worker serves it on one port, and a restarted control finds the port again."""

import numpy as np
import tritonclient.grpc as triton
from tests.e2e.live_house import MODEL

pytest_plugins = ["tests.e2e.live_fixtures"]


def ask(address):
    # A connection of its own each time: the kernel spreads them over the workers.
    client = triton.InferenceServerClient(address, channel_args=[("grpc.use_local_subchannel_pool", 1)])
    try:
        (tensor,) = client.get_model_metadata(MODEL).inputs
        sent = triton.InferInput(tensor.name, [1, tensor.shape[1]], "FP32")
        sent.set_data_from_numpy(np.ones((1, tensor.shape[1]), np.float32))
        return client.infer(MODEL, [sent], request_id="over-grpc").get_response()
    finally:
        client.close()


def test_workers_share_a_port_that_outlives_the_control(live):
    control = live.start("--workers", "2", "--grpc-port", "0")
    address = live.facts["grpc"]
    assert {status.grpc_port for status in live.statuses()} == {int(address.rpartition(":")[2])}
    answers = [ask(address) for _ in range(8)]
    assert {answer.id for answer in answers} == {"over-grpc"}
    assert {row.version for row in live.records() if row.request_id == "over-grpc"} == {answers[0].model_version}
    control.kill()
    control.wait(10)
    assert ask(address).outputs
    live.start("--workers", "2", "--grpc-port", "0")
    assert live.facts["grpc"] == address
    assert ask(address).outputs


def test_it_is_off_unless_asked_for(live):
    live.start()
    assert "grpc" not in live.facts
    assert {status.grpc_port for status in live.statuses()} == {-1}
