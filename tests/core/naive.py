"""The naive model with single events and Boxes, for comparison with the core."""

from tests.reference.queueing import Reference, runs, taken_to_end


def place_of(w, job):
    """Compare by identity: equal jobs are equal dicts."""
    return next(place for place, each in enumerate(w["jobs"]) if each is job)


class ReferenceWithBoxes(Reference):
    """Boxes with names that are added and removed one by one, like a worker's."""

    def __init__(self, types, policy, plan, aging):
        super().__init__(dict.fromkeys(types, 0), policy, plan, aging)
        self.boxes = {}  # id -> facts about it; a removed Box is deleted from here
        self.chosen = {}  # workload -> the Boxes that the core gave it in the last settle
        self.lost = []  # (workload, job): jobs that ended as lost, to be given again
        # (workload, index of the job) -> the Box that the core gave it in that settle
        self.again = {}

    def add(self, box, box_type, now):
        self.wanted[box_type] += 1
        self.boxes[box] = {
            "type": box_type, "retired": False, "job": None, "last": (None, None), "since": now,
        }  # fmt: skip

    def retire(self, box):
        known = self.boxes[box]
        if not known["retired"]:
            known["retired"] = True
            self.wanted[known["type"]] -= 1
        if known["job"] is None:
            del self.boxes[box]

    def idle(self, box_type):
        return {
            name: box
            for name, box in self.boxes.items()
            if box["type"] == box_type and box["job"] is None
        }

    def free(self, box_type):
        return len(self.idle(box_type))

    def free_at(self, box_type, at, now):
        coming = [
            box
            for box in self.boxes.values()
            if box["type"] == box_type and box["job"] is not None and not box["retired"]
        ]
        return self.free(box_type) + sum(taken_to_end(b["job"], now) <= at for b in coming)

    def start(self, w, now):
        """Accept the core's choice of Boxes, job by job; raise if docs/scheduling.md differs."""
        super().start(w, now)
        for job, name in zip(w["jobs"], self.chosen[w["id"]], strict=True):
            idle = self.idle(job["box_type"])
            assert name in idle, f"Box {name} is not a free one of type {job['box_type']}"
            best = min(preference(box, w) for box in idle.values())
            assert preference(idle[name], w) == best
            idle[name]["job"] = job

    def settle(self, now):
        """Jobs to be given again come before all waiting work."""
        waiting = []
        for w, job in self.lost:
            if runs(job) and w["stop"] is None and not self.give_again(w, job, now):
                waiting.append((w, job))
        self.lost = waiting
        assert not self.again, f"given again, and not lost: {self.again}"
        super().settle(now)

    def give_again(self, w, job, now):
        """Its running time counts from now."""
        old = next(name for name, box in self.boxes.items() if box["job"] is job)
        idle = self.idle(job["box_type"])
        chosen = self.again.pop((w["id"], place_of(w, job)), None)
        if not idle:
            assert (chosen is None) == self.boxes[old]["retired"] and chosen in (None, old)
        if chosen is None:
            assert not idle, "there is a Box for it"
            return False
        job["started_at"] = now
        if chosen != old:
            assert idle[chosen]["since"] == min(box["since"] for box in idle.values())
            self.free_box(w, old, now)
            self.boxes[chosen]["job"] = job
        return True

    def free_box(self, w, name, now):
        box = self.boxes[name]
        box |= {"job": None, "last": (w["project"], w["branch"]), "since": now}
        if box["retired"]:
            del self.boxes[name]

    def end(self, w, jobs, outcome, now):
        for name, box in list(self.boxes.items()):
            if any(box["job"] is job for job in jobs):
                self.free_box(w, name, now)
        return super().end(w, jobs, outcome, now)


def preference(box, w):
    """Smallest first: last ran this project and branch, this project, or free for longest."""
    project, branch = box["last"]
    if project == w["project"]:
        return (0,) if branch == w["branch"] and branch is not None else (1,)
    return (2, box["since"])
