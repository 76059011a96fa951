"""Old rows are deleted in slices, so that a service at work hardly notices: a slice is one short
transaction, and a pause follows that is some times as long. Where slices are full, the next one
comes at once: so however fast rows are added, they are deleted as fast, if the database can.
"""

import attrs

SLICE_SECONDS = 0.05  # a slice that took longer is followed by a smaller one
LEAST_PAUSE_SECONDS = 0.1
PAUSES = 5.0  # times as long as a slice took: the pause behind it


@attrs.define
class Slice:
    """How many rows the next slice has at most."""

    most: int
    least: int
    rows: int = attrs.field()

    @rows.default
    def _most_rows(self) -> int:
        return self.most

    def took(self, seconds: float) -> None:
        """A slice of this size is done."""
        if seconds > SLICE_SECONDS:
            self.rows = max(self.least, self.rows // 2)
        else:
            self.rows = min(self.most, self.rows * 2)


def pause_after(seconds: float) -> float:
    """The pause, in seconds, behind slices that took so long, where there is more to do."""
    return max(LEAST_PAUSE_SECONDS, PAUSES * seconds)
