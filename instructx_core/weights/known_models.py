"""Public models that `instructx download` fetches by a short name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownModel:
    """A model on the hub."""

    name: str  # what a person types
    repository: str  # owner/name
    size: str  # of what is fetched, for people
    licence: str = "not stated"  # as its page on the hub says
    # the commit to fetch; None where none has been reviewed: the newest, which is then written into the folder
    commit: str | None = None


KNOWN = tuple(
    KnownModel(f"kiwi-edit-5b-{kind}", f"linyq/kiwi-edit-5b-{kind}-diffusers", "20 to 30 GB")
    for kind in ("instruct-only", "instruct-reference", "reference-only")
)


def folder_name(repository: str) -> str:
    """The folder of a hub model among others: "owner/name" -> "owner--name"."""
    return repository.replace("/", "--")


def find_known(name: str) -> KnownModel | None:
    """The known model of a short name, a hub id or a folder's name."""
    for model in KNOWN:
        if name in (model.name, model.repository, folder_name(model.repository)):
            return model
    return None
