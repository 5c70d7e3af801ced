"""KServe's SDK against the model server. It and Triton's gRPC client bring the same protocol each in its own code, and do not go into one process."""

import asyncio

import kserve
import numpy as np

COLUMNS = '["close","ret_5"]'
ROWS = np.array([[3510.0, 0.5], [3490.0, -0.5]])


def asked_by_kserve():
    given = kserve.InferInput("features", [2, 2], "FP64", parameters={"columns": COLUMNS})
    given.set_data_from_numpy(ROWS, binary_data=False)
    return kserve.InferRequest(model_name="rb-trend", infer_inputs=[given], request_id="r-3")


def test_kserve_over_rest(served, expected):
    async def ask():
        client = kserve.InferenceRESTClient(kserve.inference_client.RESTConfig(protocol="v2", timeout=30))
        try:
            assert await client.is_server_ready(f"http://{served.http}")
            return await client.infer(f"http://{served.http}", asked_by_kserve(), model_name="rb-trend")
        finally:
            await client.close()

    answer = asyncio.run(ask())
    assert {output.name: output.data for output in answer.outputs}["score"] == expected["score"][:2]


def test_kserve_over_grpc(served, expected):
    async def ask():
        client = kserve.InferenceGRPCClient(served.grpc, timeout=30)
        try:
            assert await client.is_server_ready()
            return await client.infer(asked_by_kserve())
        finally:
            await client.close()

    answer = asyncio.run(ask())
    score = next(output for output in answer.outputs if output.name == "score")
    assert score.as_numpy().tolist() == expected["score"][:2]
