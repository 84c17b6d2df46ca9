"""The images that a request shows: chosen by the prompt's rules, read from the artifact store."""

from __future__ import annotations

from dataclasses import replace

from optuna_llm._prompt.images import choose_images
from optuna_llm._prompt.request import Request
from optuna_llm._study.artifacts import ImageReader
from optuna_llm._study.snapshot import StudySnapshot
from optuna_llm.models import ChatModel
from optuna_llm.models._chat import takes_images


class ImageLoader:
    """Adds images to requests.

    Args:
        model: The model, which may take images or not.
        reader: Reads them.
    """

    def __init__(self, model: ChatModel, reader: ImageReader) -> None:
        self._model = model
        self._reader = reader

    def add(self, snapshot: StudySnapshot, request: Request) -> Request:
        """The request with the images that the model is shown, and the number of the others."""
        chosen = choose_images(snapshot, request)
        if not takes_images(self._model):
            return replace(request, n_hidden_images=len(chosen))
        read = self._reader.read([artifact_id for artifact_id, _ in chosen])
        images = [
            replace(image, caption=caption)
            for image, (_, caption) in zip(read, chosen, strict=True)
            if image is not None
        ]
        return replace(request, images=images, n_hidden_images=len(chosen) - len(images))
