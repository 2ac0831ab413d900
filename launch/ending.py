"""How the command ends: an exit status, and one line on standard error where something went wrong.

0 done, 2 a mistake of the user, 1 any other failure, 128 + signal when stopped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from launch.local import WorkerFailure
from partition.errors import Stopped, UserError

MISTAKE, FAILURE = 2, 1
USER_OS_ERRORS = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)


def guarded(call: Callable[[], int]) -> int:
    """The status of `call`; every failure that we know of ends as one line on standard error."""
    try:
        return call()
    except UserError as error:
        return _say(" ".join(str(error).split()), MISTAKE)
    except WorkerFailure as error:
        _leave_live_view()
        return _say(str(error), FAILURE)
    except Stopped as error:
        _leave_live_view()
        return _say(str(error), 128 + error.number)
    except KeyboardInterrupt:
        return _say("stopped by SIGINT", 130)
    except MemoryError as error:
        return _say(f"not enough memory: {error}; take a smaller graph or --method streaming", FAILURE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except OSError as error:
        return _say(_os_words(error), MISTAKE if isinstance(error, USER_OS_ERRORS) else FAILURE)


def _os_words(error: OSError) -> str:
    words = error.strerror or str(error)
    return f"{error.filename}: {words}" if error.filename else words


def _leave_live_view() -> None:
    """A live view that was cut off has hidden the cursor and left it behind its last line."""
    if sys.stdout.isatty():
        print("\x1b[?25h", flush=True)


def _say(message: str, status: int) -> int:
    print(f"bnsgcn: error: {message}", file=sys.stderr, flush=True)
    return status
