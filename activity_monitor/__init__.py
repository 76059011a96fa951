"""The Activity Monitor: the page that shows what waits, for what, and what runs.

The server's part is small. ``Pages(sessions)`` has the routes that the API's application adds: the
page (or, without a session, the sign-in form), signing in and out, and the static files. It also
has the answer for browsers at unknown addresses. The page reads all its data through the API: first
``/api/v1/activity``, then ``/api/v1/events``.

How the page stays up to date (``static/``: plain ES modules, no build step):

    feed.js  --events-->  model.js  --once a frame-->  board.js  -->  row.js, panel.js
                             ^
    refresh.js  --/activity, at most every 2 s, for the reasons why rows wait

    views.js    the pages beside the lists: /servers, /schedules and so on. Each asks the API for
                what it shows, again whenever an event may have changed it (``pages.VIEWS``)

    fleet.js    --/nodes, /workers, while it is open: who is alive, who leads, what runs where

- An event costs O(1): it changes one row and marks its list; a frame sorts the marked lists.
- A row's state only moves forward, so a late or repeated event or answer changes nothing. An event
  about an unknown row causes a new request of ``/activity``.
- Text from outside is inserted by ``textContent``; ``innerHTML`` is not used.
"""

from activity_monitor.pages import Pages
from activity_monitor.responses import SECURITY_HEADERS
from activity_monitor.sessions import SESSION_COOKIE, NotForPeople, Sessions, SessionsAway

__all__ = [
    "SECURITY_HEADERS",
    "SESSION_COOKIE",
    "NotForPeople",
    "Pages",
    "Sessions",
    "SessionsAway",
]
