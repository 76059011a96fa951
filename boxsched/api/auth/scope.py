"""Scopes: the organization in which a request acts, and the projects and servers of its token.

What is out of a caller's scope does not exist for that caller: it is missing in lists and streams,
and its ids and names are unknown (404).
"""

import functools

import attrs

from boxsched.globs import Automaton, covers
from boxsched.protocol.shards import DEFAULT, OrganizationRef
from boxsched.store.records import Token

SCOPES_KEPT = 1_000
COMPARISONS_KEPT = 1_000

Patterns = tuple[str, ...] | None


def _compiled(patterns: Patterns) -> Automaton | None:
    return None if patterns is None else Automaton(patterns)


@attrs.frozen
class Scope:
    """``projects``, ``servers``: patterns of their names; None: all of the organization's."""

    projects: Patterns = None
    servers: Patterns = None
    organization: OrganizationRef = DEFAULT
    _projects: Automaton | None = attrs.field(init=False, eq=False)
    _servers: Automaton | None = attrs.field(init=False, eq=False)

    @_projects.default
    def _compile_projects(self) -> Automaton | None:
        return _compiled(self.projects)

    @_servers.default
    def _compile_servers(self) -> Automaton | None:
        return _compiled(self.servers)

    @property
    def whole(self) -> bool:
        """Whether it has no limits within the organization."""
        return self._projects is None and self._servers is None

    def has_project(self, name: str) -> bool:
        return self._projects is None or self._projects.first_match(name) is not None

    def has_server(self, name: str) -> bool:
        return self._servers is None or self._servers.first_match(name) is not None

    def has(self, project: str | None, server: str | None) -> bool:
        """Whether it includes what concerns this project, and this server if it is not None.

        ``project`` None: what is known of no project; only a scope without limits includes it.
        """
        if project is None:
            return self.whole
        return self.has_project(project) and (server is None or self.has_server(server))

    def has_all(self, project: str | None, server: str | None, branch: str | None) -> bool:
        """Whether it includes everything that a pause covers, so that it may begin or end one."""
        if project is None:
            return self.whole
        every_server = server is None and branch is None
        if every_server and self._servers is not None:
            return False
        return self.has(project, server)

    def only_project(self) -> str | None:
        """Return the name of the project, if it can only be one."""
        if self.projects is None or len(self.projects) != 1:
            return None
        (pattern,) = self.projects
        return pattern if not set(pattern) & set("*?[") else None

    def covers(self, other: "Scope") -> bool:
        """Whether everything in the other scope is in this one."""
        return _cover(self.projects, other.projects) and _cover(self.servers, other.servers)


def _cover(ours: Patterns, theirs: Patterns) -> bool:
    return ours is None or (theirs is not None and outside(ours, theirs) is None)


@functools.lru_cache(COMPARISONS_KEPT)
def outside(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str | None:
    """Return the first of their patterns that matches names that no pattern of ours matches.

    Long patterns take up to a second: call it in a thread.
    """
    others = [pattern for pattern in theirs if pattern not in ours]
    return next((pattern for pattern in others if not covers(ours, pattern)), None)


WHOLE = Scope()


def within(scope: Scope, organization: OrganizationRef) -> Scope:
    """Return the scope of the same limits in another organization."""
    return _scope(scope.projects, scope.servers, organization)


def scope_of(token: Token) -> Scope:
    return _scope(token.projects, token.servers)


@functools.lru_cache(SCOPES_KEPT)
def _scope(projects: Patterns, servers: Patterns, organization: OrganizationRef = DEFAULT) -> Scope:
    return Scope(projects, servers, organization)
