"""Exported models as repositories of the Hugging Face hub, one per task.

Knows huggingface_hub; knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, get_token, is_offline_mode
from huggingface_hub.utils import validate_repo_id

from metatlp.errors import InputError

_MESSAGE = 300  # characters kept of an error of the hub's


def check_push(name: str) -> None:
    """What can be known before anything is written.

    Args:
        name: of --push-to-hub, NAME or OWNER/NAME.

    Raises:
        InputError: no name of repositories, the hub is switched off, or no token.
    """
    with _errors_named(name):
        validate_repo_id(f"{name}-task")
    if is_offline_mode():
        raise InputError(f"--push-to-hub {name}: HF_HUB_OFFLINE is set; unset it to reach the hub")
    if get_token() is None:
        raise InputError(f"--push-to-hub {name}: no token; run `hf auth login`, or set HF_TOKEN")


def push(models: Mapping[str, Path], name: str, private: bool) -> Iterator[str]:
    """Upload each task's folder to the repository NAME-TASK, which is made if it is not there.

    Args:
        models: task -> folder.
        private: of a new repository; one that is there stays as it is.

    Yields:
        Its address, as soon as it is complete.

    Raises:
        InputError: the hub refuses, or cannot be reached; the message names the repository.
    """
    api = HfApi()
    for task, folder in models.items():
        repository = f"{name}-{task}"
        with _errors_named(repository):
            made = api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=made.repo_id,
                folder_path=folder,
                commit_message=f"Model of task {task}, exported by metatlp",
            )
        yield str(made)


@contextmanager
def _errors_named(repository: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Errors of the hub, of its HTTP client (another one in each major version), of files.
        text = " ".join(str(error).split())[:_MESSAGE]
        raise InputError(f"--push-to-hub {repository}: {text}") from error
