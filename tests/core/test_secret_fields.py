"""Values get into logs with the errors that name them: no text of a value shows a secret."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import attrs

import boxsched

# A new field that may hold a secret, or is too long for a log, is left out of its value's text
# (``repr=False``) and listed here.
LEFT_OUT = {
    "Assignment": {"secrets", "credentials"},
    "Claimed": {"sealed"},
    "Key": {"private"},
    "KeyRing": {"keys"},
    "Made": {"body"},
    "Options": {"database", "redis"},
    "OutgoingRequest": {"headers", "body"},
    "Project": {"webhook_secret", "webhook_secret_before"},
    "ProjectChange": {"sealed", "targets"},
    "ProjectFile": {"origin"},
    "SealedSecret": {"sealed"},
    "SealedText": {"text"},
    "Service": {"token"},
    "ShardCopy": {"books"},
    "StoredTarget": {"sealed"},
    "Target": {"seal"},
    "Token": {"digest"},
    "WebhookSecrets": {"now", "before"},
    "WorkerOptions": {"token"},
}

EXTRAS = {"aiobotocore", "botocore"}  # libraries that are not always installed


def test_fields_with_secrets_are_left_out_of_the_texts_of_their_values() -> None:
    found = {
        each.__name__: left_out
        for each in _values()
        if (left_out := {field.name for field in attrs.fields(each) if not field.repr})
    }
    assert found == LEFT_OUT


def _values() -> Iterator[type]:
    for module in pkgutil.walk_packages(boxsched.__path__, "boxsched."):
        if module.name.endswith("__main__"):
            continue
        try:
            imported = importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in EXTRAS:
                raise
            continue
        for each in vars(imported).values():
            if inspect.isclass(each) and each.__module__ == module.name and attrs.has(each):
                yield each
