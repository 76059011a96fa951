"""The Activity Monitor: the page that shows what waits, for what, and what runs.

The server's part is small. ``Pages(sessions)`` has the routes that the API's application adds: the
page (or, without a session, the sign-in form), signing in and out, and the static files; and it has
what a browser gets at an unknown address. All that the page shows it reads through the API:
``/api/v1/activity`` once, then ``/api/v1/events``.

How the page keeps up (``static/``, plain ES modules, no build step):

    feed.js  --events-->  model.js  --once a frame-->  board.js  -->  row.js, panel.js
                             ^
    refresh.js  --/activity, at most every 2 s, for the sentences that say why a row waits

    views.js    the pages beside the lists: /servers, /pauses, /notifications. Each asks the API for
                what it shows, again whenever an event may have changed it (``pages.VIEWS``)

    fleet.js    --/nodes, /workers, while it is open: who is alive, who leads, what runs where

- An event costs O(1): it changes one row and marks its list; a frame sorts what was marked.
- A row's state only ever moves forward, so an event or an answer that is late or comes twice
  changes nothing; a row that is not known asks for a new answer of ``/activity``.
- Whatever comes from outside becomes text by ``textContent``; there is no ``innerHTML``.
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
