"""Patterns of texts that callers send, and the messages for texts that do not match.

Every pattern ends in ``(?![\\s\\S])``: Python's ``$`` would let a trailing newline through.
"""

from collections.abc import Mapping

from boxsched import commits
from boxsched.api.http import public_keys

END = r"(?![\s\S])"
_NO_CONTROLS = r"[^\u0000-\u001f\u007f-\u009f]"
CONTROLS_FREE = rf"^{_NO_CONTROLS}+{END}"

PROJECT_NAME = rf"^[a-z0-9][a-z0-9._-]{{0,62}}{END}"
LINE = rf"^{_NO_CONTROLS}*{END}"
NAME = CONTROLS_FREE
ARGUMENT = rf"^(?!-){_NO_CONTROLS}+{END}"
TEXT = rf"^[^\u0000]*{END}"
SECRET = rf"^[^\u0000]+{END}"
COMMIT = rf"^{commits.GIVEN}{END}"
TOKEN = rf"^[!-~]+{END}"
BOX_TYPE = rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,62}}{END}"
IMAGE = rf"^(dir:/[^\u0000-\u0020\u007f-\u009f]*|[a-z0-9A-Z][A-Za-z0-9._/:@-]*){END}"
VARIABLE = rf"^(?!BOXSCHED_)[A-Za-z_][A-Za-z0-9_]{{0,254}}{END}"
EXIT_STATUS = rf"^([1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5]){END}"

PUBLIC_KEY = public_keys.pattern(END)

# The message for a text that does not match.
FORMS: Mapping[str, str] = {
    PROJECT_NAME: "must be 1 to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or digit",
    LINE: "must not contain control characters (a tab, a newline)",
    NAME: "must not contain control characters (a tab, a newline)",
    ARGUMENT: "must not begin with '-' or contain control characters (a tab, a newline)",
    TEXT: "must not contain a NUL character",
    SECRET: "must not contain a NUL character",
    TOKEN: "must be printable ASCII characters, without spaces",
    PUBLIC_KEY: "must be one OpenSSH public key, with the data of its type: ssh-ed25519 AAAA...",
    COMMIT: "must be a commit: 7 to 64 hexadecimal digits",
    BOX_TYPE: "must be 1 to 63 letters, digits, '.', '_' and '-', the first a letter or digit",
    IMAGE: "must be an image such as debian:12, or dir:/PATH for a folder of the worker",
    VARIABLE: "must be 1 to 255 letters, digits and '_', not beginning with a digit "
    "or with BOXSCHED_",
    EXIT_STATUS: "must be an exit status of a failed job, 1 to 255",
}
