"""Compile a project's branch patterns outside of the event loop.

With the largest patterns (16,384 characters) this takes up to 30 ms, so it is done in a thread.
Only one thread at a time, because several would slow down the event loop.
"""

import asyncio
from collections import OrderedDict

import attrs

from boxsched.api.messages.requests import ProjectSettings
from boxsched.globs import Automaton

INLINE_CHARACTERS = 1_024  # compiled at once: 2 ms at most
COMPILED_KEPT = 16
BYTES_A_CHARACTER = 300  # approximate memory of a compiled pattern


@attrs.frozen
class BranchGlobs:
    """A project's compiled patterns. ``build``: branches that are built after a push; None: all.
    ``characters``: the total length of the patterns.
    """

    priority: Automaton
    cancellation: Automaton
    fail_fast: Automaton | bool
    build: Automaton | None
    characters: int

    @classmethod
    def of(cls, settings: ProjectSettings) -> "BranchGlobs":
        fail_fast = settings.fail_fast
        return cls(
            Automaton(settings.priority_branches),
            Automaton([rule.pattern for rule in settings.cancellation]),
            fail_fast if isinstance(fail_fast, bool) else Automaton(fail_fast),
            None if settings.build_branches is None else Automaton(settings.build_branches),
            _characters(settings),
        )

    @property
    def size(self) -> int:
        """The approximate memory in bytes."""
        return BYTES_A_CHARACTER * self.characters


class Compiler:
    """Compiles patterns, and caches the last large ones by their content.

    When a project is read again, its patterns are usually unchanged.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], BranchGlobs] = OrderedDict()
        self._turn = asyncio.Lock()

    async def compiled(self, settings: ProjectSettings) -> BranchGlobs:
        if _characters(settings) <= INLINE_CHARACTERS:
            return BranchGlobs.of(settings)
        content = (
            settings.priority_branches,
            settings.cancellation,
            settings.fail_fast,
            settings.build_branches,
        )
        async with self._turn:
            globs = self._kept.get(content)
            if globs is None:
                globs = self._kept[content] = await asyncio.to_thread(BranchGlobs.of, settings)
                if len(self._kept) > COMPILED_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(content)
        return globs


def _characters(settings: ProjectSettings) -> int:
    fail_fast = () if isinstance(settings.fail_fast, bool) else settings.fail_fast
    patterns = [rule.pattern for rule in settings.cancellation]
    build = settings.build_branches or ()
    return sum(map(len, (*settings.priority_branches, *patterns, *fail_fast, *build)))
