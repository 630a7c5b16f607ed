"""A gateway whose callers say whose they are, in the metadata of their calls; access control will find out by itself.

All else is `python -m gateway`.
"""

import sys
from typing import Any

from gateway.__main__ import main
from gateway.api import server
from gateway.api.calls import CallInterceptor, owner

#: The name in the metadata.
OWNER = "owner"


class OwnedCalls(CallInterceptor):
    """Has each call be its owner's."""

    def _wrap_unary(self, method: str, behaviour: Any) -> Any:
        call = super()._wrap_unary(method, behaviour)

        async def call_of_owner(request: Any, context: Any) -> Any:
            _set_owner(context)
            return await call(request, context)

        return call_of_owner

    def _wrap_stream(self, method: str, behaviour: Any) -> Any:
        call = super()._wrap_stream(method, behaviour)

        async def call_of_owner(request: Any, context: Any) -> None:
            _set_owner(context)
            await call(request, context)

        return call_of_owner


def _set_owner(context: Any) -> None:
    for name, value in context.invocation_metadata() or ():
        if name == OWNER:
            owner.set(str(value))


if __name__ == "__main__":
    setattr(server, CallInterceptor.__name__, OwnedCalls)
    sys.exit(main(sys.argv[1:]))
