"""Publishing an exported data set on the Hugging Face Hub: only when asked, and private unless it is said otherwise."""

from __future__ import annotations

import re
from pathlib import Path

from s1ray import __version__
from s1ray.errors import InputError, S1rayError
from s1ray.reading.hub import check_hub, hub_is_offline

_NAME = re.compile(r"(?!.*(?:--|\.\.|\.git$))[A-Za-z0-9_][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)


class PushError(S1rayError, RuntimeError):
    """A data set that could not be published; it lies where it was exported to."""


def check_push(repository: str, *, public: bool) -> None:
    """Find out before an export whether its data set can be published.

    Args:
        repository: "owner/name".
        public: whether everybody may read it.

    Raises:
        InputError: the name is none, there is no token, the environment forbids it, or the repository is there and
            everybody can read it though that was not asked for.
        UnreachableError: the Hub does not answer.
        PushError: it refuses to say.
    """
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    if not _NAME.fullmatch(repository):
        raise InputError(f"--push {repository}: give owner/name, of letters, digits, -, _ and .")
    if hub_is_offline():
        raise InputError("--push: HF_HUB_OFFLINE or HF_DATASETS_OFFLINE is set; unset it, or export without --push")
    if huggingface_hub.get_token() is None:
        raise InputError(
            f"--push {repository}: no Hugging Face token here; log in with `hf auth login`, or set HF_TOKEN"
        )
    check_hub("export without --push, and upload the folder later")
    try:
        known = huggingface_hub.HfApi().dataset_info(repository)
    except RepositoryNotFoundError:
        return
    except Exception as error:
        raise PushError(f"--push {repository}: {_first_line(error)}; nothing was written") from error
    if not known.private and not public:
        raise InputError(
            f"--push {repository}: it is there, and everybody can read it; say --public, or give another name"
        )


def push(folder: Path, repository: str, *, public: bool) -> str:
    """Upload a data set's folder; files of an earlier one go.

    Args:
        folder: as `s1ray curate export` writes it.
        repository: "owner/name"; it is made where it is not there.
        public: whether everybody may read a repository that is made.

    Returns:
        The address of the commit.

    Raises:
        PushError: the upload failed; the folder stays.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi()
    try:
        api.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            delete_patterns="data/*",
            commit_message=f"Exported by s1ray {__version__}",
        )
    except Exception as error:
        # The Hub's client passes on whatever its HTTP client raises, and that differs between versions.
        raise PushError(
            f"--push {repository}: {_first_line(error)}; the data set is complete in {folder}: "
            f"`hf upload {repository} {folder} --repo-type dataset` tries the upload again"
        ) from error
    return str(commit.commit_url)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
