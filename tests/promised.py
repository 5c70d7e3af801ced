"""A router's promise where a stand-in for it decides in a task."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from signalyard_router.promise import Promise

T = TypeVar("T")


class Promised(Promise[T]):
    """Kept by a task, which ends where nobody waits any longer."""

    def __init__(self, deciding: Coroutine[Any, Any, T]) -> None:
        super().__init__()
        self._task = asyncio.get_running_loop().create_task(deciding)
        self._task.add_done_callback(self._came)

    def cancel(self) -> bool:
        self._task.cancel()
        return super().cancel()

    def _came(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            return
        failure = task.exception()
        if failure is not None:
            self.set_exception(failure)
        else:
            self.set_result(task.result())
