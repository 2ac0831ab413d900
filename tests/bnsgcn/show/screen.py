"""A terminal of some size: a pseudo-terminal for a program, and what it shows, as a person would see it."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import termios
import time
from collections.abc import Sequence

SEQUENCE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\][^\x07]*\x07")


class Screen:
    """Rows of letters; knows what the face sends: cursor up, erase line, colours, hiding the cursor."""

    def __init__(self, width: int) -> None:
        self.width, self.rows, self.row, self.column = width, [""], 0, 0
        self.cursor_shown, self.colours = True, set[str]()

    def feed(self, text: str) -> None:
        """Take in what a program has written."""
        place = 0
        while place < len(text):
            if found := SEQUENCE.match(text, place):
                place = found.end()
                if found[2]:
                    self._obey(found[1], found[2])
                continue
            self._put(text[place])
            place += 1

    def _obey(self, given: str, letter: str) -> None:
        if letter == "A":
            self.row = max(0, self.row - int(given or 1))
        elif letter == "K":
            self.rows[self.row] = ""
        elif letter == "m":
            self.colours.add(given)
        elif (given, letter) in (("?25", "l"), ("?25", "h")):
            self.cursor_shown = letter == "h"
        else:
            raise AssertionError(f"the face sent ESC[{given}{letter}")

    def _put(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.row, self.column = self.row + 1, 0
        else:
            if self.column == self.width:  # a terminal goes on in the next row
                self.row, self.column = self.row + 1, 0
            self._row(self.row)
            line = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1
        self._row(self.row)

    def _row(self, row: int) -> None:
        while len(self.rows) <= row:
            self.rows.append("")

    def lines(self) -> list[str]:
        """What is shown, without blanks at the right."""
        return [row.rstrip() for row in self.rows]


class Terminal:
    """A program on a pseudo-terminal; its standard input is ours."""

    def __init__(self, words: Sequence[str], width: int, environment: dict[str, str]) -> None:
        self._fd, theirs = os.openpty()
        self.screen = Screen(width)
        self.resize(width)
        self._program = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, env=environment, text=True
        )
        os.close(theirs)
        os.set_blocking(self._fd, False)

    def resize(self, width: int) -> None:
        """Make the window wider or narrower; what is on it stays, as on xterm."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        self.screen.width = width

    def say(self, line: str) -> None:
        """A line of its standard input; returns once the program has answered with a bell."""
        assert self._program.stdin is not None
        self._program.stdin.write(line + "\n")
        self._program.stdin.flush()
        self.wait_for_bell()

    def wait_for_bell(self) -> None:
        """Take in what it writes up to its next bell."""
        deadline, content = time.monotonic() + 60, b""
        while not content.endswith(b"\a"):
            assert time.monotonic() < deadline, content
            try:
                content += os.read(self._fd, 1 << 16)
            except BlockingIOError:
                time.sleep(0.01)
        self.screen.feed(content[:-1].decode())

    def close(self) -> None:
        """End the program."""
        assert self._program.stdin is not None
        self._program.stdin.close()
        self._program.kill()
        self._program.wait()
        os.close(self._fd)
