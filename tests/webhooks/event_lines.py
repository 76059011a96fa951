"""Formats events as one line each, as in the table of expected outcomes."""

from boxsched.webhooks.events import BranchDeleted, ChangeRequest, Event, Ignored, Push, TagPush


def event_line(event: Event) -> str:
    match event:
        case Ignored():
            return f"ignored: {event.reason}"
        case BranchDeleted():
            return f"branch {event.branch} deleted"
        case Push():
            forced = "forced to " if event.forced else ""
            return f"branch {event.branch} at {forced}{_said(event)}"
        case TagPush():
            return f"tag {event.tag} at {_said(event)}"
        case ChangeRequest():
            whose = "fork" if event.from_fork else "own"
            draft = " draft" if event.draft else ""
            return f"{event.action} {event.branch} ({whose}{draft}) at {_said(event)}"


def _said(event: Push | TagPush | ChangeRequest) -> str:
    return f"{(event.commit or 'no commit')[:12]} {event.message!r} by {event.author}"
