"""Which tests are nearest to a line: those that ran it, the quickest first."""

import attrs

# The folders of tests of each room. A change there should be caught by these.
FOLDERS: dict[str, tuple[str, ...]] = {
    "scheduling": ("core", "simulation", "engine"),
    "engine": ("engine",),
    "cluster": ("cluster", "bus"),
    "gateway": ("gateway",),
    "feed": ("engine",),
    "worker": ("worker",),
    "store": ("contract", "db"),
    "api": ("service",),
}


@attrs.frozen
class Nearest:
    """What the run over the unchanged tree has shown."""

    seconds: dict[str, float]  # of each test that passes
    by_line: dict[tuple[str, int], set[str]]

    def tests(self, file: str, line: int, most_seconds: float) -> list[str]:
        """The tests that ran the line; where none did in this process (a module's own line, or one
        that runs in a process of its own), those of the room. Cut where they take ``most_seconds``
        together, but one at least."""
        found = self.by_line.get((file, line)) or self._of_room(file)
        chosen: list[str] = []
        took = 0.0
        for name in sorted(found, key=lambda name: (self.seconds[name], name)):
            took += self.seconds[name]
            if chosen and took > most_seconds:
                break
            chosen.append(name)
        return chosen

    def _of_room(self, file: str) -> set[str]:
        folders = tuple(f"tests/{each}/" for each in FOLDERS[file.split("/")[1]])
        return {name for name in self.seconds if name.startswith(folders)}
