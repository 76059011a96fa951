"""Sentences about workers that are not connected, or are given no jobs."""

from collections.abc import Mapping

from boxsched.engine.books import Books
from boxsched.engine.capacity import Absence, Withheld, named, withheld
from boxsched.engine.sight import listed
from boxsched.protocol.workers import IN_PROCESS
from boxsched.scheduling.reasons import NeedsBoxes

Absences = Mapping[str, Absence]  # by type of Box


def nobody_there(books: Books, absent: Absences) -> bool:
    """Whether no Box of any type is usable: all are away, or none exists."""
    wanted = [pool for pool in books.core.pools.values() if pool.wanted]
    return all(pool.box_type in absent and not absent[pool.box_type].usable for pool in wanted)


def usable(books: Books, absent: Absences, box_type: str) -> int:
    """Return how many Boxes of the type exist on workers that are given jobs."""
    if box_type in absent:
        return absent[box_type].usable
    pool = books.core.pools.get(box_type)
    return 0 if pool is None else pool.wanted


def too_few_there(reason: NeedsBoxes, absent: Absences) -> bool:
    """Whether ending other workloads does not help: first a worker must return or be able to begin
    jobs again.
    """
    return reason.box_type in absent and reason.asked > absent[reason.box_type].usable


_NOBODY = {
    Withheld.TROUBLED: "No worker can begin jobs: {}.",
    Withheld.INCOMPATIBLE: "No worker is compatible: {}.",
    Withheld.DRAINING: "Every connected worker is draining: {}.",
}


def nobody_text(books: Books) -> str:
    """Return the sentence for the case that no Box is usable."""
    of = {
        why: sorted({named(books, w) for w in books.workers if withheld(books, w) is why})
        for why in (Withheld.TROUBLED, Withheld.INCOMPATIBLE, Withheld.DRAINING)
    }
    found = {why: names for why, names in of.items() if names}
    if len(found) == 1:
        [(why, alone)] = found.items()
        return _NOBODY[why].format(listed(alone))
    if found:
        draining = [f"{name} (draining)" for name in found.pop(Withheld.DRAINING, ())]
        others = [name for names in found.values() for name in names]
        return f"No connected worker is given jobs: {listed(sorted(others + draining))}."
    names = _absent_names(books)
    known = f" ({names})" if names else ""
    return f"No worker is connected{known}: start one with `boxsched worker`."


def where_text(absence: Absence) -> str:
    """Return where the Boxes of a type are, for the case that too few are usable."""
    there = absence.usable
    able = "connected workers"
    if absence.draining or absence.incompatible:
        able = "workers that are given jobs"
    elif absence.troubled:
        able = "workers that can begin jobs"
    parts = [f"{there or 'none'} {'are' if there > 1 else 'is'} on {able}"]
    if absence.absent:
        parts.append(f"{absence.absent} more on {listed(absence.absent_workers)}, not connected")
    if absence.troubled:
        parts.append(f"{absence.troubled} more on {listed(absence.troubled_workers)}")
    if absence.draining:
        parts.append(f"{absence.draining} more on {listed(absence.draining_workers)}, draining")
    if absence.incompatible:
        names = listed(absence.incompatible_workers)
        parts.append(f"{absence.incompatible} more on {names}, incompatible")
    return ", ".join(parts)


def beside_text(absent: Absences, box_type: str) -> str:
    """Return another sentence if some Boxes of the type are withdrawn; otherwise an empty text."""
    absence = absent.get(box_type)
    if absence is None:
        return ""
    text = ""
    if absence.troubled:
        text += f" {absence.troubled} more cannot begin jobs: {listed(absence.troubled_workers)}."
    if absence.draining:
        noun = "Box is" if absence.draining == 1 else "Boxes are"
        text += f" {absence.draining} {noun} draining: {listed(absence.draining_workers)}."
    if absence.incompatible:
        names = listed(absence.incompatible_workers)
        text += f" {absence.incompatible} more are on incompatible workers: {names}."
    return text


def _absent_names(books: Books) -> str:
    """Return the names of absent workers; in-process workers only if they have Boxes."""
    own = {books.names.get(worker) for worker in books.workers}
    names = books.names.values()
    return listed(sorted(n for n in names if n in own or not n.startswith(IN_PROCESS)))
