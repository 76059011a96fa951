"""The programs of channels: a command or a shell, with pipes or with a terminal."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine
from typing import Any

import asyncssh

from boxsched.worker.session import terminal

CHUNK_BYTES = 64 << 10
IDLE_SECONDS = 0.2  # a terminal that is still held open counts as read to its end after that
_FORWARDED_VARIABLES = ("LANG", "LC_", "COLORTERM")
MAX_VARIABLE_CHARACTERS = 256

Channel = asyncssh.SSHServerProcess[bytes]


class Program:
    """The program of one channel. ``run`` runs it to its end."""

    def __init__(self, channel: Channel, shell: str, environment: dict[str, str]) -> None:
        self._channel = channel
        self._shell = shell
        self._environment = environment | _variables(channel)
        self._process: Process | None = None
        self._terminal = -1

    async def run(self) -> None:
        """Run it and send its exit status. Its processes get SIGHUP if the client has gone."""
        try:
            if self._channel.term_type is None:
                status = await self._with_pipes()
            else:
                status = await self._with_terminal(self._channel.term_type)
        except (OSError, ValueError, asyncssh.Error) as error:  # ValueError: a null character
            if self._process is None:
                self._say(f"cannot start {self._shell}: {error}\n")
            self.signal(signal.SIGHUP)
            status = 255
        with contextlib.suppress(OSError, asyncssh.Error):
            if status >= 0:
                self._channel.exit(status)
            else:
                self._channel.exit_with_signal(_name(-status))

    # --- What clients and the session send --------------------------------------------------

    def signal(self, number: int) -> None:
        """Send the signal to the program's process group."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def interrupt(self) -> None:
        """Do what ^C does."""
        if self._terminal < 0:
            self.signal(signal.SIGINT)
        else:
            with contextlib.suppress(OSError):
                os.write(self._terminal, b"\x03")

    def resize(self, columns: int, rows: int, width: int, height: int) -> None:
        if self._terminal >= 0:
            with contextlib.suppress(OSError):
                terminal.set_size(self._terminal, columns, rows, width, height)

    def warn(self, text: str) -> None:
        """Write a line into the terminal, if there is one."""
        if self._terminal >= 0:
            self._say(f"\r\n*** {text} ***\r\n")

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            self._channel.stderr.write(text.encode())

    # --- Pipes ------------------------------------------------------------------------------

    async def _with_pipes(self) -> int:
        self._process = process = await asyncio.create_subprocess_exec(
            *self._argv(),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=self._environment,
            start_new_session=True,
            limit=CHUNK_BYTES,
        )
        assert process.stdin is not None and process.stdout is not None
        assert process.stderr is not None
        feeding = asyncio.create_task(_feed(self._channel.stdin, process.stdin))
        try:
            await _all(
                _pump(process.stdout.read, self._channel.stdout),
                _pump(process.stderr.read, self._channel.stderr),
            )
            return await process.wait()
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    def _argv(self) -> list[str]:
        command = self._channel.command
        return [self._shell] if command is None else [self._shell, "-c", command]

    # --- A terminal -------------------------------------------------------------------------

    async def _with_terminal(self, kind: str) -> int:
        ours, theirs = terminal.open_terminal(*self._channel.term_size)
        try:
            try:
                terminal.set_modes(theirs, self._channel.term_modes)
                self._process = process = await asyncio.create_subprocess_exec(
                    *self._argv(),
                    stdin=theirs,
                    stdout=theirs,
                    stderr=theirs,
                    env={**self._environment, "TERM": kind, "SSH_TTY": os.ttyname(theirs)},
                    start_new_session=True,
                    preexec_fn=terminal.take_terminal,
                )
            finally:
                os.close(theirs)
            self._terminal = ours
            typing = asyncio.create_task(self._type())
            try:
                return await self._show(process)
            finally:
                typing.cancel()
                await asyncio.gather(typing, return_exceptions=True)
        finally:
            self._terminal = -1
            os.close(ours)  # its foreground processes get SIGHUP

    async def _show(self, process: Process) -> int:
        """Send what appears in the terminal, until its end or the program's."""
        ended = asyncio.create_task(process.wait())
        try:
            while True:
                try:
                    data = os.read(self._terminal, CHUNK_BYTES)
                except BlockingIOError:
                    if not await _is_readable(self._terminal, ended):
                        break
                except OSError:
                    break  # EIO: no process has it open any more
                else:
                    self._channel.stdout.write(data)
                    await self._channel.stdout.drain()
            return await ended
        finally:
            ended.cancel()

    async def _type(self) -> None:
        """Write what the client types into the terminal."""
        with contextlib.suppress(OSError, asyncssh.Error):
            while data := await self._channel.stdin.read(CHUNK_BYTES):
                while data:
                    try:
                        data = data[os.write(self._terminal, data) :]
                    except BlockingIOError:
                        await _is_writable(self._terminal)


def _variables(channel: Channel) -> dict[str, str]:
    """Return the client's variables about its language and colours."""
    return {
        name: value
        for name, value in channel.env.items()
        if name.startswith(_FORWARDED_VARIABLES)
        and name.isidentifier()
        and len(name) <= MAX_VARIABLE_CHARACTERS
        and len(value) <= MAX_VARIABLE_CHARACTERS
        and value.isprintable()
    }


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


# --- Pumps ----------------------------------------------------------------------------------


async def _pump(
    read: Callable[[int], Coroutine[Any, Any, bytes]], writer: asyncssh.SSHWriter[bytes]
) -> None:
    """Copy to the client until the end of the file, at the speed of the slower side."""
    while data := await read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()


async def _feed(reader: asyncssh.SSHReader[bytes], pipe: asyncio.StreamWriter) -> None:
    """Copy from the client until its end; the program may end its input before."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await reader.read(CHUNK_BYTES):
            pipe.write(data)
            await pipe.drain()
    pipe.close()


async def _all(*works: Coroutine[Any, Any, None]) -> None:
    """Wait for all; when one raises, cancel the others first."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _is_readable(descriptor: int, ended: "asyncio.Task[int]") -> bool:
    """Wait for something to read. False: the program has ended, and nothing comes any more."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _done, ready)
    try:
        if not ended.done():
            either: list[asyncio.Future[Any]] = [ready, ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            await asyncio.wait([ready], timeout=IDLE_SECONDS)
        return ready.done()
    finally:
        loop.remove_reader(descriptor)


async def _is_writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, _done, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _done(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
