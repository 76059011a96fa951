"""The page's sessions; only their digests are stored."""

from boxsched.store.blocks import Steps, load

_SQL = load("sessions.sql")


def put_session(digest: str, principal: str, expires_at: float) -> Steps[None]:
    yield _SQL["put_session"](digest=digest, principal=principal, expires_at=expires_at)


def session(digest: str, now: float) -> Steps[str | None]:
    found = yield _SQL["session"](digest=digest, now=now)
    return found[0][0] if found else None


def drop_expired_sessions(then: float, limit: int) -> Steps[int]:
    return len((yield _SQL["drop_expired_sessions"](then=then, limit=limit)))


def drop_session(digest: str) -> Steps[None]:
    yield _SQL["drop_session"](digest=digest)
