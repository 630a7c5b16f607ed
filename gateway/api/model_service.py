"""`easel.v1.ModelService`: tells which models can be asked for."""

from typing import Any

import grpc

from easel.v1 import model_service_pb2 as messages
from easel.v1.model_service_pb2_grpc import ModelServiceServicer
from gateway.catalogue import Catalogue
from gateway.errors import ModelNotFound


class ModelService(ModelServiceServicer):
    """The public face of models."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def ListModels(
        self, request: messages.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> messages.ListModelsResponse:
        """List every known model by name."""
        await self._catalogue.refresh()
        models = self._catalogue.models
        return messages.ListModelsResponse(models=[models[name] for name in sorted(models)])

    async def GetModel(
        self, request: messages.GetModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> messages.GetModelResponse:
        """Read a model."""
        await self._catalogue.refresh()
        model = self._catalogue.models.get(request.name)
        if model is None:
            raise ModelNotFound(request.name)
        return messages.GetModelResponse(model=model)
