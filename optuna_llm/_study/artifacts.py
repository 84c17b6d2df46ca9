"""Images of trials in an artifact store of Optuna's, where its dashboard finds them too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import tempfile
from typing import TYPE_CHECKING

from optuna.trial import Trial

from optuna_llm._images import find_type
from optuna_llm._images import Image
from optuna_llm._images import MAX_IMAGE_BYTES
from optuna_llm._images import MAX_IMAGES
from optuna_llm._logging import get_logger
from optuna_llm._quoting import one_line


if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

_logger = get_logger(__name__)


def upload_images(trial: Trial, images: Sequence[Image], store: ArtifactStore) -> list[str]:
    """Keep images among a trial's artifacts.

    Args:
        trial: The running trial.
        images: The images.
        store: Where they are kept.

    Returns:
        Their artifact ids.
    """
    # A third of what importing the package would cost, for the few who have images.
    from optuna.artifacts import upload_artifact

    ids = []
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(images, start=1):
            path = Path(folder, f"image-{number}.{image.type.partition('/')[2]}")
            path.write_bytes(image.data)
            ids.append(
                upload_artifact(
                    artifact_store=store,
                    file_path=str(path),
                    study_or_trial=trial,
                    mimetype=image.type,
                )
            )
    return ids


class ImageReader:
    """Reads images back; those read last are kept, since most are shown again.

    Args:
        store: Where they are; None reads none.
    """

    def __init__(self, store: ArtifactStore | None) -> None:
        self._store = store
        self._kept: dict[str, Image] = {}
        self._warned: set[str] = set()

    def read(self, ids: Sequence[str]) -> list[Image | None]:
        """The images of these artifact ids; None for each that cannot be read."""
        kept = self._kept
        images = {i: kept.get(i) or self._read(i) for i in ids}
        found = {i: image for i, image in images.items() if image is not None}
        # Replaced as a whole, since other threads read too.
        self._kept = dict(list((kept | found).items())[-2 * MAX_IMAGES :])
        return [images[i] for i in ids]

    def _read(self, artifact_id: str) -> Image | None:
        if self._store is None:
            return None
        try:
            with self._store.open_reader(artifact_id) as file:
                data = file.read(MAX_IMAGE_BYTES + 1)
        except Exception as error:  # noqa: BLE001 - the store is the user's, and no image is vital
            self._warn(artifact_id, one_line(f"{type(error).__name__}: {error}", 300))
            return None
        kind = find_type(data)
        if kind is None or len(data) > MAX_IMAGE_BYTES:
            self._warn(artifact_id, "it is no image of a size and format that can be shown.")
            return None
        return Image(data, kind)

    def _warn(self, artifact_id: str, reason: str) -> None:
        """Warn once for each image, since it may be missed in many calls."""
        if artifact_id not in self._warned:
            self._warned.add(artifact_id)
            _logger.warning("The image %s cannot be shown: %s", artifact_id, reason)
