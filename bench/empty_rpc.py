"""The least that a unary RPC costs: CreateGeneration with an empty handler, in a process of its own.

The server says `{target}` once it listens, and ends with its standard input. It has the loop of the gateway and none of
its interceptors, and answers every request with an empty message.
"""

import asyncio
import sys

import grpc
import uvloop

from bench.child import say
from easel.v1.generation_messages_pb2 import CreateGenerationRequest, CreateGenerationResponse


async def create_generation(request: CreateGenerationRequest, context: object) -> CreateGenerationResponse:
    """Answer, and do nothing else."""
    del request, context
    return CreateGenerationResponse()


async def serve() -> None:
    """Serve until standard input ends."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_unary_rpc_method_handler(
        create_generation,
        request_deserializer=CreateGenerationRequest.FromString,
        response_serializer=CreateGenerationResponse.SerializeToString,
    )
    server.add_registered_method_handlers("easel.v1.GenerationService", {"CreateGeneration": handler})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say({"target": f"127.0.0.1:{port}"})
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(serve())
