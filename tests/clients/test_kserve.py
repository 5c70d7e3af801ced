"""KServe's SDK, unchanged, through the router: it gets what the model server says.

It is in a process of its own: its generated code claims the names that Triton's claims.
"""

import asyncio

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

COLUMNS = '["close","ret_5"]'
ROWS = np.array([[3500.0, 0.5], [3490.0, -0.5], [3510.0, np.nan]])


def question():
    features = InferInput("features", [3, 2], "FP64", parameters={"columns": COLUMNS})
    features.set_data_from_numpy(ROWS, binary_data=False)
    return InferRequest("rb-trend", [features], request_id="mine")


def test_kserves_rest_client(router, scores):
    async def body():
        client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=10, retries=1))
        base = f"http://{router.http}"
        try:
            assert await client.is_server_live(base)
            assert await client.is_server_ready(base)
            assert await client.is_model_ready(base, "rb-trend")
            data = [None if value != value else value for value in ROWS.ravel().tolist()]
            features = InferInput("features", [3, 2], "FP64", data, {"columns": COLUMNS})
            answer = await client.infer(base, InferRequest("rb-trend", [features], request_id="mine"), "rb-trend")
        finally:
            await client.close()
        assert answer.id == "mine"  # of the version the SDK keeps nothing over REST
        assert {output.name: output.data for output in answer.outputs}["score"] == scores

    asyncio.run(body())


def test_kserves_grpc_client(router, scores):
    async def body():
        async with InferenceGRPCClient(router.grpc, timeout=10) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("rb-trend")
            answer = await client.infer(question())
        assert (answer.model_version, answer.id) == ("7", "mine")
        score = next(output for output in answer.outputs if output.name == "score")
        assert list(score.as_numpy()) == scores

    asyncio.run(body())
