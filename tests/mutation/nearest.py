"""The nearest tests of a line: those that ran it, quickest first."""

from collections.abc import Collection, Iterable

import attrs

from tests.mutation.places import Place

# The folders of tests of each room. A change there should be caught by these.
FOLDERS: dict[str, tuple[str, ...]] = {
    "scheduling": ("core", "simulation", "engine"),
    "protocol": ("core", "engine", "gateway"),
    "engine": ("engine", "core"),
    "feed": ("engine",),
    "cluster": ("cluster", "bus", "engine"),
    "gateway": ("gateway",),
    "outgoing": ("outgoing",),
    "secrets": ("secrets",),
    "automation": ("automation", "service"),
    "worker": ("worker",),
    "store": ("contract", "db"),
    "webhooks": ("webhooks",),
    "api": ("service",),
}


@attrs.frozen
class Nearest:
    """The results of the run on the unchanged tree."""

    seconds: dict[str, float]  # of each test that passes
    by_line: dict[Place, set[str]]

    def tests(
        self,
        file: str,
        groups: Iterable[Iterable[Place]],
        most_seconds: float,
        naming: Collection[str] = (),
    ) -> list[str]:
        """Return the tests that ran a line of the first group (``places``) that any test ran, and
        those in the files ``naming``.

        If no test ran such a line in this process, return those of the room. The list is cut at
        ``most_seconds``, but has at least one test.
        """
        by_group = (set[str]().union(*(self._ran(each) for each in group)) for group in groups)
        found = next(filter(None, by_group), None) or self._of_room(file)
        found |= {name for name in self.seconds if name.split("::")[0] in naming}
        chosen: list[str] = []
        took = 0.0
        for name in sorted(found, key=lambda name: (self.seconds[name], name)):
            took += self.seconds[name]
            if chosen and took > most_seconds:
                break
            chosen.append(name)
        return chosen

    def _ran(self, place: Place) -> set[str]:
        return self.by_line.get(place, set())

    def _of_room(self, file: str) -> set[str]:
        folders = tuple(f"tests/{each}/" for each in FOLDERS[file.split("/")[1]])
        return {name for name in self.seconds if name.startswith(folders)}
