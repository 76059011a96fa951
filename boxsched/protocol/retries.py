"""Retries in place: which ends of an attempt give a job another attempt in the same Box."""

import msgspec


class Retries(msgspec.Struct, array_like=True, frozen=True):
    """How often each cause gives a job another attempt, or has done so.

    ``lost``: its worker, or the supervisor there, was lost. ``exit``: (exit status, times).
    ``any``: any failure, after the ones above are used up.
    """

    lost: int = 0
    exit: tuple[tuple[int, int], ...] = ()
    any: int = 0

    @property
    def total(self) -> int:
        return self.lost + sum(times for _, times in self.exit) + self.any


NONE = Retries()


def of_exit(retries: Retries, status: int) -> int:
    return next((times for each, times in retries.exit if each == status), 0)


def counted(
    allowed: Retries, used: Retries, *, lost: bool, exit_status: int | None
) -> Retries | None:
    """Return the retries used when such a failure is retried; None: none is left for it."""
    if lost and used.lost < allowed.lost:
        return msgspec.structs.replace(used, lost=used.lost + 1)
    if exit_status is not None and (times := of_exit(used, exit_status)) < of_exit(
        allowed, exit_status
    ):
        others = [pair for pair in used.exit if pair[0] != exit_status]
        return msgspec.structs.replace(
            used, exit=tuple(sorted([*others, (exit_status, times + 1)]))
        )
    if used.any < allowed.any:
        return msgspec.structs.replace(used, any=used.any + 1)
    return None
