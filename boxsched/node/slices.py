"""Delete old rows in slices, so that a busy service is hardly delayed. A slice is one short
transaction, followed by a pause of several times its duration. After a full slice the next one
follows without a longer wait, so rows are deleted as fast as they are added, if the database is
fast enough.
"""

import attrs

SLICE_SECONDS = 0.05  # after a slice that took longer, the next one is smaller
LEAST_PAUSE_SECONDS = 0.1
PAUSES = 5.0  # the pause after a slice, as a multiple of its duration


@attrs.define
class Slice:
    """The limit of rows in the next slice, adapted to the duration of earlier ones."""

    most: int
    least: int
    rows: int = attrs.field()

    @rows.default
    def _most_rows(self) -> int:
        return self.most

    def took(self, seconds: float) -> None:
        """Adapt the size after a slice that took this many seconds."""
        if seconds > SLICE_SECONDS:
            self.rows = max(self.least, self.rows // 2)
        else:
            self.rows = min(self.most, self.rows * 2)


def pause_after(seconds: float) -> float:
    """Return the pause after slices that took ``seconds``, if there is more to delete."""
    return max(LEAST_PAUSE_SECONDS, PAUSES * seconds)
