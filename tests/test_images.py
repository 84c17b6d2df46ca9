"""Images as feedback: what is taken, kept, chosen and shown, with a real artifact store."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import json
from pathlib import Path
import pickle
import re
from typing import Any
from typing import IO

from hypothesis import given
from hypothesis import strategies as st
from images import make_png
import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts import get_all_artifact_meta
from optuna.samplers import PartialFixedSampler
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial
import pytest

from optuna_llm import explain_failures
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm._images import Image
from optuna_llm._images import list_images
from optuna_llm._images import MAX_IMAGE_BYTES
from optuna_llm.dashboard import annotate
from optuna_llm.models import ReplayModel
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


Asked = list[Sequence[Message]]


@pytest.fixture
def store(tmp_path: Path) -> FileSystemArtifactStore:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    return FileSystemArtifactStore(folder)


class SeeingModel(ScriptedModel):
    takes_images = True


def draw(trial: optuna.Trial, n_images: int = 1) -> float:
    """An objective with a text and images that differ from trial to trial."""
    text = suggest_text(trial, "drawing", "start")
    report_feedback(
        trial, "Look.", images=[make_png(10 * trial.number + i) for i in range(n_images)]
    )
    return float(len(text))


def run_texts(
    model: ScriptedModel, store: FileSystemArtifactStore, n_trials: int, **arguments: Any
) -> optuna.Study:
    sampler = LLMSampler(model=model, artifact_store=store, seed=0, **arguments)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(draw, n_trials)
    return study


def grow() -> Callable[[Sequence[Message]], str]:
    lengths = iter(range(6, 100))
    return lambda _: write_reply(texts={"drawing": "x" * next(lengths)})


def in_user_message(calls: Asked, n: int = -1) -> tuple[str, tuple[Image, ...]]:
    return calls[n][1].content, calls[n][1].images


def test_a_model_is_shown_the_images_of_the_start_and_of_the_best(
    store: FileSystemArtifactStore,
) -> None:
    model = SeeingModel(grow())
    study = run_texts(model, store, n_trials=12)
    apart = 0
    for number, (system, user) in enumerate(model.calls, start=1):
        assert system.images == ()
        start = int(re.findall(r'^Start from "drawing" of trial (\d+)', user.content, re.M)[0])
        best = number - 1
        assert [image.data for image in user.images] == [
            make_png(10 * shown) for shown in dict.fromkeys([start, best])
        ]
        captions = [line for line in user.content.splitlines() if line.startswith("- image ")]
        if start == best:
            assert captions == [f"- image 1: trial {best}, the one to start from and the best"]
        else:
            apart += 1
            assert captions == [
                f"- image 1: trial {start}, the one to start from",
                f"- image 2: trial {best}, the best",
            ]
    assert apart
    assert study.trials[3].user_attrs["feedback"] == "Look."


def test_a_study_of_numbers_shows_the_best_and_the_latest_that_has_some(
    store: FileSystemArtifactStore,
) -> None:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 9)
        if trial.number != 3:
            report_feedback(trial, "", images=[make_png(trial.number)] * 3)
        return x

    model = SeeingModel([write_reply({"x": x}) for x in (1, 2, 3, 4)])
    study = optuna.create_study(sampler=LLMSampler(model=model, artifact_store=store, seed=0))
    study.enqueue_trial({"x": 5})
    study.optimize(objective, n_trials=5)
    content, images = in_user_message(model.calls)
    assert [image.data for image in images] == [make_png(1)] * 2 + [make_png(2)] * 2
    assert "- image 2: trial 1, the best (2 of 3)\n" in content
    assert "- image 3: trial 2, the latest (1 of 3)\n" in content


def test_a_failed_start_is_shown_too(store: FileSystemArtifactStore) -> None:
    @explain_failures
    def objective(trial: optuna.Trial) -> float:
        value = draw(trial)
        if trial.number == 0:
            raise RuntimeError("an arm is missing")
        return value

    model = SeeingModel(grow())
    study = optuna.create_study(sampler=LLMSampler(model=model, artifact_store=store))
    study.optimize(objective, n_trials=2, catch=RuntimeError)
    content, images = in_user_message(model.calls)
    assert "an arm is missing" in content
    assert [image.data for image in images] == [make_png(0)]


def test_images_are_among_the_trials_artifacts_for_the_dashboard(
    store: FileSystemArtifactStore,
) -> None:
    study = run_texts(SeeingModel(grow()), store, n_trials=1)
    ids = study.trials[0].user_attrs["llm:images"]
    metas = get_all_artifact_meta(study.trials[0], storage=study._storage)
    assert [(m.artifact_id, m.filename, m.mimetype) for m in metas] == [
        (ids[0], "image-1.png", "image/png")
    ]
    with store.open_reader(ids[0]) as file:
        assert file.read() == make_png(0)
    annotate(study)
    notes = " ".join(str(v) for v in study._storage.get_study_system_attrs(0).values())
    assert "1 image, among the trial's artifacts" in notes


def test_a_model_that_takes_no_images_gets_a_line_instead(store: FileSystemArtifactStore) -> None:
    model = ScriptedModel(grow())
    run_texts(model, store, n_trials=2)
    content, images = in_user_message(model.calls)
    assert content.endswith("\nimages: 1, not shown\n")
    assert (images, [vars(m).keys() for m in model.calls[0]]) == ((), [{"role", "content"}] * 2)


def test_a_function_takes_images_if_it_says_so(store: FileSystemArtifactStore) -> None:
    seen: list[int] = []

    def ask(messages: Sequence[Message]) -> str:
        seen.append(len(messages[1].images))
        return write_reply(texts={"drawing": "x" * (10 + len(seen))})

    run_texts(ask, store, n_trials=2)  # type: ignore[arg-type]
    ask.takes_images = True  # type: ignore[attr-defined]
    run_texts(ask, store, n_trials=2)  # type: ignore[arg-type]
    assert seen == [0, 1]


def test_what_is_made_ahead_and_what_is_previewed_has_images(
    store: FileSystemArtifactStore,
) -> None:
    model = SeeingModel(grow())
    study = run_texts(model, store, n_trials=4, prefetch=2)
    assert all(user.images for _, user in model.calls)
    prompt = study.sampler.preview(study)  # type: ignore[attr-defined]
    assert prompt.messages[1].images
    assert "- image 1: trial" in str(prompt)


@pytest.mark.parametrize("damage", ["gone", "empty", "no image", "huge", "no store"])
def test_an_image_that_cannot_be_read_is_a_line(
    damage: str,
    store: FileSystemArtifactStore,
    tmp_path: Path,
    logs: pytest.LogCaptureFixture,
) -> None:
    model = SeeingModel(grow())
    study = run_texts(model, store, n_trials=1)
    path = tmp_path / "artifacts" / study.trials[0].user_attrs["llm:images"][0]
    contents = {"empty": b"", "no image": b"<html>", "huge": make_png() + b" " * MAX_IMAGE_BYTES}
    if damage == "gone":
        path.unlink()
    elif damage in contents:
        path.write_bytes(contents[damage])
    kept = None if damage == "no store" else store
    study.sampler = LLMSampler(model=model, artifact_store=kept, seed=0)
    study.optimize(lambda trial: float(len(suggest_text(trial, "drawing", "start"))), 1)
    content, images = in_user_message(model.calls)
    for _ in range(2):  # Each shows the same image, and none repeats the warning.
        study.sampler.preview(study)
    assert content.endswith("\nimages: 1, not shown\n")
    assert images == ()
    assert logs.text.count("cannot be shown") == (damage != "no store")


@pytest.mark.parametrize("stored", [5, "x", [None], ["../secret"], ["/etc/passwd"], ["a"] * 9])
def test_what_others_store_as_images_is_not_trusted(
    stored: object, store: FileSystemArtifactStore
) -> None:
    model = SeeingModel(grow())
    study = optuna.create_study(sampler=LLMSampler(model=model, artifact_store=store))

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("llm:images", stored)
        return float(len(suggest_text(trial, "drawing", "start")))

    study.optimize(objective, n_trials=2)
    assert in_user_message(model.calls)[1] == ()


class Figure:
    """What matplotlib's figures can do."""

    def savefig(self, file: IO[bytes], format: str) -> None:
        assert format == "png"
        file.write(make_png(1))


class Picture:
    """What PIL's images can do."""

    def save(self, file: IO[bytes], format: str) -> None:
        assert format == "png"
        file.write(make_png(2))


def report(store: FileSystemArtifactStore | None, images: Any) -> optuna.trial.FrozenTrial:
    def objective(trial: optuna.Trial) -> float:
        report_feedback(trial, "See.", images=images)
        return 0.0

    study = optuna.create_study(sampler=LLMSampler(model="offline", artifact_store=store))
    study.optimize(objective, n_trials=1)
    return study.trials[0]


def test_images_come_as_bytes_paths_pictures_and_figures(
    store: FileSystemArtifactStore, tmp_path: Path
) -> None:
    webp = b"RIFF\x00\x00\x00\x00WEBPVP8 "
    (tmp_path / "a.png").write_bytes(make_png(3))
    given: list[list[object]] = [
        [make_png(0), bytearray(b"\xff\xd8\xff\xe0"), memoryview(webp), b"GIF89a"],
        [Figure(), Picture(), tmp_path / "a.png", str(tmp_path / "a.png")],
    ]
    kept = []
    for images in given:
        for artifact_id in report(store, images).user_attrs["llm:images"]:
            with store.open_reader(artifact_id) as file:
                kept.append(file.read())
    assert kept[:4] == [make_png(0), b"\xff\xd8\xff\xe0", webp, b"GIF89a"]
    assert kept[4:] == [make_png(1), make_png(2), make_png(3), make_png(3)]


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([make_png()] * 5, ValueError, "at most 4 images: 5 are given"),
        ([b"BM\x00\x00"], ValueError, r"images\[0\] is no PNG, JPEG, WebP or GIF: it begins with"),
        ([make_png(), b""], ValueError, r"images\[1\] is no PNG.*: it is empty"),
        ([make_png() + bytes(MAX_IMAGE_BYTES)], ValueError, "larger than 5 MB: scale it down"),
        (make_png(), TypeError, "images must be a list of images, not a bytes"),
        ([[1, 2]], TypeError, r"images\[0\] is a list: give PNG"),
        (["gone.png"], FileNotFoundError, "gone.png"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(
    images: object, error: type[Exception], message: str, store: FileSystemArtifactStore
) -> None:
    with pytest.raises(error, match=message):
        report(store, images)


def test_without_a_store_the_error_says_what_to_give() -> None:
    with pytest.raises(ValueError, match=r"LLMSampler\(artifact_store=optuna\.artifacts"):
        report(None, [make_png()])
    assert report(None, []).state == optuna.trial.TrialState.COMPLETE


def test_a_folder_is_no_store_and_the_error_says_what_is(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"give optuna\.artifacts\.FileSystemArtifactStore"):
        LLMSampler(model="offline", artifact_store=str(tmp_path))  # type: ignore[arg-type]


def test_an_objective_with_images_runs_unchanged_under_any_other_sampler() -> None:
    study = optuna.create_study(sampler=RandomSampler())
    study.optimize(draw, n_trials=1)
    assert "llm:images" not in study.trials[0].user_attrs
    assert draw(FixedTrial({"drawing": "abc"})) == 3  # type: ignore[arg-type]


def test_a_sampler_that_wraps_ours_keeps_images(store: FileSystemArtifactStore) -> None:
    inner = LLMSampler(model="offline", artifact_store=store)
    study = optuna.create_study(sampler=PartialFixedSampler({"x": 1.0}, inner))
    study.optimize(draw, n_trials=1)
    assert len(study.trials[0].user_attrs["llm:images"]) == 1


def test_a_later_call_replaces_images_and_one_without_keeps_them(
    store: FileSystemArtifactStore,
) -> None:
    counts = []

    def objective(trial: optuna.Trial) -> float:
        for images in ([make_png(), make_png()], None, [make_png()], []):
            report_feedback(trial, "again", images=images)
            counts.append(len(trial.user_attrs["llm:images"]))
        return 0.0

    study = optuna.create_study(sampler=LLMSampler(model="offline", artifact_store=store))
    study.optimize(objective, n_trials=1)
    assert counts == [2, 2, 1, 0]


def test_a_sampler_with_a_store_survives_pickling(store: FileSystemArtifactStore) -> None:
    model = SeeingModel([write_reply(texts={"drawing": "xx"})])
    sampler = pickle.loads(pickle.dumps(LLMSampler(model=model, artifact_store=store)))
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(draw, n_trials=2)
    messages = sampler._sessions._settings.models["SeeingModel"].calls[0]
    assert [image.data for image in messages[1].images] == [make_png(0)]
    assert pickle.loads(pickle.dumps(messages)) == messages


@pytest.mark.parametrize("model_class", [SeeingModel, ScriptedModel])
def test_a_study_with_images_replays_whatever_its_model_takes(
    model_class: type[ScriptedModel], store: FileSystemArtifactStore, tmp_path: Path
) -> None:
    model, path = model_class(grow()), tmp_path / "replies.jsonl"
    first = run_texts(ReplayModel(path, model), store, n_trials=6)  # type: ignore[arg-type]
    again = run_texts(ReplayModel(path), store, n_trials=6)  # type: ignore[arg-type]
    assert [t.value for t in again.trials] == [t.value for t in first.trials]
    content, images = in_user_message(model.calls)
    assert bool(images) == (model_class is SeeingModel)
    assert ("not shown" in content) == (not images)
    assert path.stat().st_size < 200_000


def test_a_log_and_a_replay_hold_digests(store: FileSystemArtifactStore, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    big = make_png(0) + bytes(1_000_000)

    def objective(trial: optuna.Trial) -> float:
        report_feedback(trial, "", images=[big])
        return float(len(suggest_text(trial, "drawing", "start")))

    path = tmp_path / "replies.jsonl"
    model = ReplayModel(path, SeeingModel(grow()))
    sampler = LLMSampler(model=model, artifact_store=store, log_file=log)
    optuna.create_study(sampler=sampler).optimize(objective, n_trials=2)
    (line,) = map(json.loads, log.read_text().splitlines())
    assert line["messages"][1]["images"][0].startswith("image/png sha256:")
    assert line["messages"][0].keys() == {"role", "content"}
    assert log.stat().st_size + path.stat().st_size < 100_000


@given(
    text=st.text(max_size=200),
    captions=st.lists(st.text(max_size=20), max_size=4),
    count=st.integers(0, 5),
)
def test_leaving_images_out_changes_nothing_but_the_end_of_the_text(
    text: str, captions: list[str], count: int
) -> None:
    images = tuple(Image(make_png(i), "image/png", c) for i, c in enumerate(captions))
    message = Message("user", text + list_images(images), images)
    limited = message.limit_images(count)
    n_left_out = max(0, len(images) - count)
    assert limited.images == images[:count]
    end = f"\nimages: {n_left_out}, not shown\n" if n_left_out else ""
    assert limited.content == text + list_images(images[:count]) + end
    parts = message.to_dict()["content"]
    if images:
        assert parts[0] == {"type": "text", "text": message.content}
        assert len(parts) == 1 + len(images)
    else:
        assert parts == message.content
        assert vars(message) == message.to_dict() == message.to_log()


def test_a_prompt_with_images_begins_as_the_one_without(tmp_path: Path) -> None:
    prompts = []
    for model in (SeeingModel(grow()), ScriptedModel(grow())):
        folder = tmp_path / type(model).__name__
        folder.mkdir()
        run_texts(model, FileSystemArtifactStore(folder), n_trials=8)
        prompts.append([user.content for _, user in model.calls])
    for shown, hidden in zip(*prompts, strict=True):
        text, _, _ = shown.rpartition("\n# Images, which follow this text in this order\n")
        assert re.fullmatch(re.escape(text) + r"\nimages: \d, not shown\n", hidden)
