"""The stack that the other tests here break: it draws what a script says."""

from easel.client import Client
from easel.v1.generation_pb2 import GenerationSpec, GenerationState


async def test_a_scripted_picture(client: Client) -> None:
    states = [event.generation.state async for event in client.generate(GenerationSpec(prompt="step=0.01", steps=4))]
    assert states[-1] == GenerationState.GENERATION_STATE_SUCCEEDED
