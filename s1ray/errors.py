"""The root of every error that a user can fix.

The command line catches `S1rayError` alone and shows its message as one line. Anything else that is raised is a bug of
ours and keeps its traceback. A message names the file, the row or the field, says what is wrong, and what to do.
"""

from __future__ import annotations


class S1rayError(Exception):
    """Something that the user, or whoever runs the machines, can fix. Rooms derive their own errors from it."""


class InputError(S1rayError, ValueError):
    """A value, a row or a file whose content cannot be used."""


class MissingError(S1rayError, FileNotFoundError):
    """A file or folder that is not there."""


class UnreachableError(S1rayError, ConnectionError):
    """A cluster, a server or an API that does not answer, or answers too few requests."""
