"""The worker's side of TLS: which certificates it trusts, and its own certificate."""

import ssl
from pathlib import Path

import attrs


class BadTlsFile(Exception):
    """A file for TLS cannot be used; the message names it."""


@attrs.frozen
class TlsFiles:
    """Files in PEM format. ``ca``: the authorities that sign nodes' certificates; None: those of
    this machine. ``certificate`` and ``key``: the worker's own, for servers that require one.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext | None:
        """Read the files, which may have been renewed. Return None without any.

        Raises BadTlsFile.
        """
        if self == TlsFiles():
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise BadTlsFile(_message("--ca-file", self.ca, error)) from None
        if self.certificate is not None:
            try:
                # never ask for a passphrase: nobody may be there
                context.load_cert_chain(self.certificate, self.key, password=_no_passphrase)
            except (OSError, ssl.SSLError, ValueError) as error:
                raise BadTlsFile(
                    _message("--client-certificate", self.certificate, error)
                ) from None
        return context


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase: use one without")


def _message(option: str, path: Path | None, error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        why = "the key does not belong to it" if mismatch else "not a PEM file of the right kind"
    else:
        why = (isinstance(error, OSError) and error.strerror) or str(error)
    return f"{option}: cannot use {path}: {why}"
