"""Whether a run that is there may go on with what a start of it brings: settings, precision, images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twoviews.dataset.fingerprint import Fingerprint
from twoviews.errors import CheckpointError, SettingsError
from twoviews.files import write_bytes
from twoviews.listing import first_few
from twoviews.settings import RunSettings
from twoviews.trainers.environment import first_start
from twoviews.trainers.settings_file import PLACES, differences, load_settings

DATA_INDEX = "data-index.json.gz"
_SHOWN = 6  # differences in a refusal


def require_same_run(
    folder: Path, settings: RunSettings, machine: dict[str, Any] | None, data: Fingerprint | None
) -> None:
    """Refuse what would not end as the run that is there would have.

    Args:
        folder: of the run.
        settings: of this start.
        machine: where this start computes, if that is to be compared.
        data: what its images are, if they are to be compared.

    Raises:
        SettingsError: other settings, or another precision than ``auto`` was at the first start.
        CheckpointError: other images, or a record that is damaged.
    """
    changed = differences(settings, load_settings(folder / "settings.yaml"))
    first = first_start(folder / "environment.json")
    if first is not None and machine is not None:
        # Which precision ``auto`` was is known: that one has to come again, however it is asked for. Others change
        # every number and not just last bits.
        changed.pop("precision", None)
        was, is_now = first["machine"].get("precision"), machine["precision"]
        if was != is_now and not changed:
            raise SettingsError(
                f"{folder} began in {was}, and here it would go on in {is_now}, with other numbers: go on with "
                f"--precision {was}, or start beside it with --new."
            )
    others = _other_images(folder / DATA_INDEX, data)
    # A folder of images that was moved holds the same images; places that can't be compared so are settings.
    unmoved = others is None and data is not None and (folder / DATA_INDEX).exists()
    wrong = [text for name, text in changed.items() if not (unmoved and name in PLACES)]
    if wrong:
        few, more = first_few(wrong, _SHOWN)
        shown = "; ".join(few) + (f"; and {more} more" if more else "")
        forks = "epochs" in type(settings).model_fields and settings.group is None
        fork = ", or from its weights with --fork" if forks else ""
        raise SettingsError(
            f"{folder} holds a run with other settings ({shown}); use those, or start beside it with --new{fork}."
        )
    if others is not None:
        raise _changed_images(folder, others)


def require_same_images(folder: Path, data: Fingerprint | None) -> None:
    """Refuse images that are not those that the run in ``folder`` began with.

    Raises:
        CheckpointError: they are not, or the record of them is damaged.
    """
    others = _other_images(folder / DATA_INDEX, data)
    if others is not None:
        raise _changed_images(folder, others)


def _changed_images(folder: Path, others: str) -> CheckpointError:
    return CheckpointError(
        f"{folder}: the images are not those that the run began with: {others}; put them back, or start beside "
        "it with --new."
    )


def keep_fingerprint(folder: Path, data: Fingerprint | None) -> None:
    """Write down what a run's images are, once."""
    if data is not None and not (folder / DATA_INDEX).exists():
        write_bytes(folder / DATA_INDEX, data.as_file)


def _other_images(saved: Path, data: Fingerprint | None) -> str | None:
    if data is None or not saved.exists():
        return None
    try:
        return data.changes_since(saved.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{saved} can't be read ({error}): put it back, or delete it to go on without a check of the images."
        ) from error
