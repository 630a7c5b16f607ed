"""Collecting what is wrong with a request, so that one answer names it all."""

from gateway.errors import InvalidRequest, Violation


class Violations:
    """What is wrong with a request, so far."""

    def __init__(self) -> None:
        self._found: list[Violation] = []
        self._independent_of_model = 0

    def expect(self, holds: bool, field: str, description: str) -> None:
        """Take note of a violation, unless what is expected of the field holds."""
        if not holds:
            self._found.append(Violation(field, description))

    def include(self, refused: InvalidRequest, *, prefix: str) -> None:
        """Take note of what is wrong with a part of the request, by paths that begin with a prefix."""
        self._found += [Violation(prefix + one.field, one.description) for one in refused.violations]

    def come_to_the_model(self) -> None:
        """Take note that all further ones depend on the model."""
        self._independent_of_model = len(self._found)

    def raise_any(self) -> None:
        """End the request if anything is wrong with it.

        Raises:
            InvalidRequest: with every violation.
        """
        if self._found:
            raise InvalidRequest(self._found, depends_on_model=self._independent_of_model == 0)
