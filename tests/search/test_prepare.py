"""A study that is gone on with: what is not said again stays as it was."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from command import run
from optuna.storages import RDBStorage
from PIL import Image

from search.launcher import prepare
from search.launcher.prepare import Flags, make_config
from search.study import compute_limit, config as study_config, full_training
from search.study.config import StudyConfig
from search.study.finish_plan import FinishPlan, make_plan, recipe_of_rung
from space.errors import SpaceError, StudyError, UsageError
from storage import studies
from storage.database import normalise
from trainer.data import dataset as datasets
from trainer.data.catalogue import SPECS
from trainer.recipe.defaults import brief_epochs
from trainer.recipe.document import Recipe


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of twenty pictures each."""
    random = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        folder = tmp_path / "pictures" / "train" / name
        folder.mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "pictures"


def flags(tmp_path: Path, **given: object) -> Flags:
    return Flags(storage=f"sqlite:///{tmp_path / 's.db'}", data_dir=tmp_path / "data", trials=3, **given)  # type: ignore[arg-type]


def test_flags_of_the_data_that_are_left_out_come_from_the_study_one_by_one(
    tmp_path: Path, pictures: Path
) -> None:
    spec = f"folder:{pictures}"
    stored = make_config(flags(tmp_path, data=spec, image_size=8, train_images=20), None)
    for again in ({"data": spec}, {"image_size": 8}, {"train_images": 20}, {}):
        assert make_config(flags(tmp_path, **again), stored) == stored


def test_images_that_have_moved_are_the_same_images(tmp_path: Path, pictures: Path) -> None:
    stored = make_config(flags(tmp_path, data=f"folder:{pictures}", image_size=8), None)
    shutil.copytree(pictures, tmp_path / "elsewhere")
    shutil.rmtree(pictures)
    assert make_config(flags(tmp_path, data=f"folder:{tmp_path / 'elsewhere'}"), stored) == stored


def test_other_images_are_another_study(tmp_path: Path, pictures: Path) -> None:
    stored = make_config(flags(tmp_path, data=f"folder:{pictures}", image_size=8), None)
    (pictures / "train" / "cats" / "7.png").unlink()
    now = make_config(flags(tmp_path, data=f"folder:{pictures}"), stored)
    with pytest.raises(StudyError, match="another --data, --image-size or --fit; "):
        prepare.study_config.require_same("night", stored, now)


def add_test_pictures(pictures: Path, count: int) -> None:
    """Test pictures of one class; those that there are already stay."""
    (pictures / "test" / "cats").mkdir(parents=True, exist_ok=True)
    for i in range(count):
        shutil.copy(pictures / "train" / "cats" / f"{i}.png", pictures / "test" / "cats" / f"{i}.png")


def test_a_study_whose_test_images_have_changed_is_not_gone_on_with_and_one_like_it_has_these(
    tmp_path: Path, pictures: Path
) -> None:
    """The finals of two evenings would be tested on two sets."""
    spec, stored = f"folder:{pictures}", list[StudyConfig]()
    for count in (0, 5, 9):
        add_test_pictures(pictures, count)
        stored.append(make_config(flags(tmp_path, data=spec), None))
    none, was, now = stored
    for cache in (tmp_path / "data/cache").iterdir():  # the test images of before are nowhere
        if datasets.test_digest_of(cache) == was.data.test_digest:
            shutil.rmtree(cache)
    assert len({one.data.test_digest for one in stored}) == 3 and none.data.test_digest is None
    assert len({one.data.digest for one in stored}) == 1
    for said in ({}, {"data": spec}):
        other = make_config(flags(tmp_path, **said), was)
        with pytest.raises(StudyError, match="'night' was made with other test images; put them back, or"):
            prepare.study_config.require_same("night", was, other)
        assert make_config(flags(tmp_path, like="night", **said), was) == now
        for unknown in (none, was.model_copy(update={"data": none.data})):  # without, or of before
            assert make_config(flags(tmp_path, **said), unknown) == unknown
    shutil.rmtree(pictures / "test")
    assert make_config(flags(tmp_path), was) == was, "no test images are no others"


def test_an_unknown_data_set_is_a_matter_of_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ("--storage", f"sqlite:///{tmp_path / 's.db'}", "--data-dir", str(tmp_path / "data"))
    result = run(capsys, "launch", "--trials", "3", "--data", "imagenet", *store)
    assert (result.code, result.err) == (
        2,
        f"search: unknown data set 'imagenet'; use {SPECS}\n",
    )


def test_plain_sampling_of_a_space_in_which_hardly_a_draw_fits_is_refused(tmp_path: Path) -> None:
    few = {"data": "digits", "max_parameters": 2_000}
    with pytest.raises(SpaceError, match="use --sampling fit"):
        make_config(flags(tmp_path, sampling="reject", **few), None)
    assert make_config(flags(tmp_path, **few), None).sampling == "fit"
    assert make_config(flags(tmp_path, data="digits", sampling="reject"), None).sampling == "reject"


def test_the_limit_of_compute_has_a_default_that_none_lifts_and_a_study_keeps_its_own(tmp_path: Path) -> None:
    config = make_config(flags(tmp_path, data="digits"), None)
    assert config.budget.max_macs == 62_000_000, "1G for 32 pixels, by area, for 8"
    lifted = make_config(flags(tmp_path, data="digits", max_macs=0), None)
    assert lifted.budget.max_macs is None
    assert make_config(flags(tmp_path), lifted).budget.max_macs is None
    assert make_config(flags(tmp_path), config).budget == config.budget
    on_cpu = make_config(flags(tmp_path, data="digits", on_cpu=True), None)
    assert on_cpu.budget.max_macs == 58_000_000


def test_how_pictures_are_read_stays_that_of_the_study(tmp_path: Path, pictures: Path) -> None:
    picture = pictures / "train" / "cats" / "7.png"
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (16, 40, 3), dtype=np.uint8)).save(picture)
    (pictures / "train" / "dogs" / "3.png").write_text("no picture")
    asked = {"data": f"folder:{pictures}", "image_size": 16, "skip_damaged": True}
    stored = {fit: make_config(flags(tmp_path, fit=fit, **asked), None) for fit in ("pad", "crop")}
    assert len({config.data.digest for config in stored.values()}) == 2
    for fit, config in stored.items():
        assert (config.data.fit, config.data.skip_damaged) == (fit, True)
        assert make_config(flags(tmp_path), config) == config
        assert make_config(flags(tmp_path, image_size=16), config) == config
    before = stored["crop"].document()
    del before["data"]["fit"]
    assert StudyConfig.from_record(before) == stored["crop"], "one that was made before there was a choice"


def test_pictures_that_fill_their_frame_in_one_way_are_known_by_themselves(tmp_path: Path) -> None:
    """A disc on a plain ground, and the same anywhere in the frame: both folders say nothing of it."""
    dice, found = np.random.default_rng(0), dict[str, StudyConfig]()
    for name, reach in {"scans": 1, "photographs": 12}.items():
        for i in range(40):
            down, right = dice.integers(16 - reach, 16 + reach, 2)
            distance = np.hypot(*(np.ogrid[:32, :32][axis] - at for axis, at in enumerate((down, right))))
            place = tmp_path / name / "train" / ("bright", "dark")[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            disc = np.where(distance < 8, (250, 120)[i % 2], dice.integers(0, 40, (32, 32)))
            Image.fromarray(disc.astype(np.uint8)).save(place / f"{i}.png")
        found[name] = make_config(flags(tmp_path, data=f"folder:{tmp_path / name}"), None)
    assert [config.data.aligned for config in found.values()] == [True, False]
    assert [full_training.default_recipe(config.data, 20).crop_padding for config in found.values()] == [0, 4]
    before = found["scans"].document()
    del before["data"]["aligned"]
    stored = StudyConfig.from_record(before)
    assert full_training.default_recipe(stored.data, 20).crop_padding == 4, "as it was when it was made"
    scans = f"folder:{tmp_path / 'scans'}"
    assert make_config(flags(tmp_path, data=scans), stored) == stored
    fewer = make_config(flags(tmp_path, train_images=20), stored)  # --like it
    assert (fewer.data.train_images, fewer.data.aligned) == (20, None)
    photographs = f"folder:{tmp_path / 'photographs'}"
    assert make_config(flags(tmp_path, data=photographs), stored).data == found["photographs"].data


def test_class_weights_are_of_the_recipe(tmp_path: Path, pictures: Path) -> None:
    spec = f"folder:{pictures}"
    config = make_config(flags(tmp_path, data=spec, class_weights="balanced"), None)
    assert config.recipe.class_weights == "balanced"
    assert make_config(flags(tmp_path), config) == config
    other = make_config(flags(tmp_path, class_weights="none"), config)
    with pytest.raises(StudyError, match="another --recipe, --epochs or --class-weights"):
        prepare.study_config.require_same("night", config, other)


def test_a_folders_own_validation_images_make_the_split(tmp_path: Path, pictures: Path) -> None:
    for name in ("cats", "dogs"):
        (pictures / "val" / name).mkdir(parents=True)
        for i in range(5):
            shutil.move(pictures / "train" / name / f"{i}.png", pictures / "val" / name)
    config = make_config(flags(tmp_path, data=f"folder:{pictures}"), None)
    data = config.data
    assert (data.train_images, data.validation_images, data.validation_share) == (30, 10, 0.25)
    assert data.own_part == "the folder's own (val/)"
    tensors = data.model_copy(update={"spec": "tensors:digits"})
    assert tensors.own_part == "its own"
    assert data.model_copy(update={"own_validation": False}).own_part is None


def alpha(tmp_path: Path, **given: object) -> StudyConfig:
    """A study of digits that is not by default in anything that is asked of it below."""
    (tmp_path / "recipe.toml").write_text("learning_rate = 0.5\noptimizer = 'sgd'\n")
    said = {"epochs": 7, "max_parameters": 77_000, "max_macs": 300_000, "sampler": "random", "seed": 3}
    own = flags(tmp_path, study="alpha", data="digits", recipe=tmp_path / "recipe.toml", **(said | given))
    engine, _, config = prepare.prepare(own)
    engine.dispose()
    return config


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_somebody_elses_study_of_optuna_is_not_taken_for_one_of_a_search(
    tmp_path: Path, database_url: str
) -> None:
    """One without a trial is what a launch leaves that broke off between its two records."""
    storage = RDBStorage(normalise(database_url))
    theirs = optuna.create_study(storage=storage, study_name="theirs")
    own = Flags(database_url, tmp_path / "data", 3, "theirs", data="digits")
    optuna.create_study(storage=storage, study_name="empty")
    made, _, _ = prepare.prepare(replace(own, study="empty"))
    made.dispose()
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), 2)
    with pytest.raises(UsageError, match="Optuna has a study 'theirs' in this store that no search has made"):
        prepare.prepare(own)
    engine, _, _ = prepare.prepare(replace(own, study="ours"))
    assert [one.name for one in studies.all_studies(engine)] == ["empty", "ours"]
    engine.dispose()
    assert [trial.params.keys() for trial in theirs.get_trials()] == [{"x"}, {"x"}]
    storage.remove_session()
    storage.engine.dispose()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_study_like_another_has_its_plan_and_what_is_said_wins(tmp_path: Path) -> None:
    was = alpha(tmp_path, finish=True, finalists=3)
    (tmp_path / "slower.toml").write_text("learning_rate = 0.05\n")
    said = prepare.with_trials(
        replace(
            flags(tmp_path),
            trials=0,
            study="beta",
            like="alpha",
            max_parameters=50_000,
            recipe=tmp_path / "slower.toml",
        )
    )
    assert said.trials == 3
    engine, beta, config = prepare.prepare(said)
    engine.dispose()
    assert config.recipe == was.recipe.model_copy(update={"learning_rate": 0.05})
    assert config.budget.max_parameters == 50_000
    same = {"recipe": was.recipe, "budget": was.budget}
    assert config.model_copy(update=same) == was
    assert beta.finish is not None and beta.finish["finals"]["networks"] == 3


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_study_that_exists_is_not_made_like_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alpha(tmp_path)
    common = (
        "launch",
        "--storage",
        f"sqlite:///{tmp_path / 's.db'}",
        "--data-dir",
        tmp_path / "data",
        "--dry-run",
    )
    for more, said in (
        (("alpha", "--like", "alpha"), "study 'alpha' exists: leave --like out to go on with it"),
        (("beta", "--like", "alhpa"), "no study 'alhpa'; did you mean 'alpha'?"),
        (("beta",), "Missing option '--trials'"),
    ):
        refused = run(capsys, *common, *more)
        assert refused.code == 2
        assert said in refused.one_line


def test_what_a_recipe_file_says_stays_in_finals_though_it_is_usual_in_trials(
    tmp_path: Path, pictures: Path
) -> None:
    """Pictures that must be neither shifted nor mixed: trials do so by default, long trainings do not."""
    names, file = ("crop_padding", "mixup", "cutmix"), tmp_path / "recipe.toml"

    def said(recipe: Recipe) -> tuple[float, ...]:
        return tuple(getattr(recipe, name) for name in names)

    def final(config: StudyConfig) -> Recipe:
        return make_plan(config, None, epochs=200).finals.recipe

    given = {"data": f"folder:{pictures}", "image_size": 16}
    usual = make_config(flags(tmp_path, **given), None)
    assert said(usual.recipe) == (0, 0, 0) and min(said(final(usual))) > 0
    file.write_text("".join(f"{name} = 0\n" for name in names))
    config = make_config(flags(tmp_path, recipe=file, **given), None)
    assert config.recipe == usual.recipe and set(config.recipe_written) == set(names)
    assert said(final(config)) == said(recipe_of_rung(config, 200)) == (0, 0, 0)
    like = make_config(flags(tmp_path, epochs=100), config)
    assert said(like.recipe) == said(final(like)) == (0, 0, 0), "and in a study like it"
    again = make_config(flags(tmp_path, recipe=file), usual)
    prepare.study_config.require_same("night", usual, again)  # of a version that noted none


def test_a_schedule_in_a_recipe_file_is_stretched_with_the_epochs_that_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('schedule = { name = "cosine", length = 6 }')
    found = make_config(flags(tmp_path, data="digits", recipe=file, epochs=12), None).recipe
    assert (found.epochs, getattr(found.schedule, "length", None)) == (12, 12)


@pytest.mark.parametrize(
    "schedule",
    [
        'name = "step", milestones = [3, 5]',
        'name = "cosine", length = 6',
        'name = "cosine", warm_up = 2',
        'name = "one_cycle"',
    ],
)
@pytest.mark.parametrize(
    "given",
    [{"epochs": 7}, {"epochs": 12}, {"timeout": 3.0, "on_cpu": True, "workers": 1, "max_macs": 4_000_000}],
)
def test_the_same_command_goes_on_where_the_schedule_of_its_recipe_file_was_stretched(
    tmp_path: Path, schedule: str, given: dict[str, object]
) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(f"schedule = {{ {schedule} }}")
    asked = flags(tmp_path, data="digits", recipe=file, **given)
    first = make_config(asked, None)
    assert first.recipe.epochs != brief_epochs("digits"), "which is what stretches it"
    assert make_config(asked, first) == first


@pytest.mark.parametrize(
    ("schedule", "field", "expected"),
    [
        ('name = "step", milestones = [10, 15]', "milestones", (10, 15)),
        ('name = "cosine", length = 20', "length", 20),
        ('name = "cosine", warm_up = 5', "warm_up", 5),
    ],
)
def test_a_schedule_in_a_recipe_file_is_one_of_the_epochs_of_the_study_that_is_said(
    tmp_path: Path, schedule: str, field: str, expected: object
) -> None:
    model = make_config(flags(tmp_path, data="digits", epochs=20), None)
    file = tmp_path / "recipe.toml"
    file.write_text(f"schedule = {{ {schedule} }}")
    made = make_config(flags(tmp_path, study="beta", like="alpha", recipe=file), model)
    assert made.recipe.epochs == 20
    assert getattr(made.recipe.schedule, field) == expected
    assert make_config(flags(tmp_path, study="beta", recipe=file), made) == made, "the same without --like"


def test_a_study_like_another_on_other_images_takes_the_default_recipe_of_these(
    tmp_path: Path, pictures: Path
) -> None:
    known = make_config(flags(tmp_path, data=f"folder:{pictures}"), None)
    like = make_config(flags(tmp_path, data="digits"), known)
    assert like.data.image_size == known.data.image_size, "of which a part is the shift"
    same = flags(tmp_path, data="digits", image_size=known.data.image_size, epochs=known.recipe.epochs)
    assert like.recipe == make_config(same, None).recipe


def like(tmp_path: Path, **given: object) -> tuple[StudyConfig, FinishPlan]:
    """Configuration and plan of a launch of "beta" like "alpha", with these flags."""
    asked = prepare.with_trials(replace(flags(tmp_path, study="beta", like="alpha", **given), trials=0))
    engine, record, config = prepare.prepare(asked)
    engine.dispose()
    plan = FinishPlan.from_record(record.finish)
    assert plan
    return config, plan


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("said", ["nothing", "data", "class weights", "recipe", "image size", "epochs"])
def test_the_finals_of_a_study_like_another_have_its_length_and_the_recipe_of_their_own(
    tmp_path: Path, pictures: Path, said: str
) -> None:
    """Those of the other one: digits were mixed and shifted as pictures are, whatever was said."""
    (tmp_path / "slower.toml").write_text("learning_rate = 0.05\nflip = false\n")
    given: dict[str, object] = {
        "nothing": {},
        "data": {"data": "digits"},
        "class weights": {"class_weights": "balanced"},
        "recipe": {"recipe": tmp_path / "slower.toml"},
        "image size": {"image_size": 32},
        "epochs": {"epochs": 3, "final_epochs": 150},
    }[said]
    asked = {
        "study": "alpha",
        "data": f"folder:{pictures}",
        "image_size": 16,
        "max_macs": 300_000,
        "finish": True,
    }
    engine, record, _ = prepare.prepare(
        flags(tmp_path, **asked, final_epochs=120, finalists=3, final_seeds=2)
    )
    engine.dispose()
    whole = FinishPlan.from_record(record.finish)
    config, plan = like(tmp_path, **given)
    epochs = 150 if said == "epochs" else 120
    assert plan == make_plan(config, None, finalists=3, epochs=epochs, seeds=2)
    assert (plan == whole) == (said == "nothing")
    final = plan.finals.recipe
    assert (final.mixup == 0) == (said == "data")
    assert final.class_weights == config.recipe.class_weights
    assert (final.learning_rate == 0.05) == (said == "recipe")


@pytest.mark.parametrize("is_of_before", [False, True])
@pytest.mark.parametrize(("was", "now"), [(32, 128), (128, 32)])
def test_a_study_like_another_of_smaller_or_larger_images_has_the_space_and_limit_for_its_own(
    tmp_path: Path, pictures: Path, was: int, now: int, is_of_before: bool
) -> None:
    spec = f"folder:{pictures}"
    stored = make_config(flags(tmp_path, data=spec, image_size=was), None)
    if is_of_before:
        stored = of_before(stored)
    found = make_config(flags(tmp_path, image_size=now), stored)
    own = make_config(flags(tmp_path, data=spec, image_size=now), None)
    assert found == own
    assert (own.space != stored.space) and (own.budget != stored.budget)
    assert make_config(flags(tmp_path), found) == found, "and goes on with them"
    assert make_config(flags(tmp_path, train_images=20), stored).budget == stored.budget


def of_before(config: StudyConfig) -> StudyConfig:
    """As a version stored it that did not say how space and limit came about."""
    document = config.document()
    del document["space_written"], document["max_macs_written"]
    return StudyConfig.from_record(document)


def test_what_a_space_of_ones_own_says_of_large_images_holds_in_a_study_like_it(
    tmp_path: Path, pictures: Path
) -> None:
    file = tmp_path / "space.toml"
    file.write_text("depth = [3]\n[large_images]\nabove = 20\n[large_images.stem]\nstride = [2]\n")
    small = make_config(flags(tmp_path, data=f"folder:{pictures}", image_size=16, space=file), None)
    large = make_config(flags(tmp_path, image_size=32), small)
    again = make_config(flags(tmp_path, image_size=16), large)
    assert [config.space.stem.stride for config in (small, large, again)] == [(1,), (2,), (1,)]
    assert again == small
    assert make_config(flags(tmp_path, image_size=32), of_before(small)).space == small.space, "not known"


@pytest.mark.parametrize("is_of_before", [False, True])
@pytest.mark.parametrize("limit", [123_000_000, compute_limit.UNLIMITED])
def test_a_limit_of_compute_that_was_said_is_that_of_a_study_like_it_too(
    tmp_path: Path, pictures: Path, limit: int, is_of_before: bool
) -> None:
    stored = make_config(flags(tmp_path, data=f"folder:{pictures}", image_size=32, max_macs=limit), None)
    if is_of_before:
        stored = of_before(stored)
    assert make_config(flags(tmp_path, image_size=128), stored).budget == stored.budget


def test_a_limit_of_compute_that_was_said_may_be_the_default_of_other_images(
    tmp_path: Path, pictures: Path
) -> None:
    asked = {"data": f"folder:{pictures}", "image_size": 32}
    default = make_config(flags(tmp_path, **asked), None)
    said = make_config(flags(tmp_path, **asked, max_macs=default.budget.max_macs), None)
    assert said.budget == default.budget and said.max_macs_written
    assert make_config(flags(tmp_path, image_size=128), said).budget == said.budget
    study_config.require_same("night", default, said)


def test_other_images_than_those_of_the_study_it_is_like_are_split_as_their_own(
    tmp_path: Path, pictures: Path
) -> None:
    shutil.copytree(pictures, tmp_path / "other")
    (tmp_path / "other" / "train" / "cats" / "7.png").unlink()
    for name in ("cats", "dogs"):
        (pictures / "val" / name).mkdir(parents=True)
        for i in range(10):
            shutil.move(pictures / "train" / name / f"{i}.png", pictures / "val" / name)
    stored = make_config(flags(tmp_path, data=f"folder:{pictures}", seed=3), None)
    assert stored.data.validation_share == 0.5
    found = make_config(flags(tmp_path, data=f"folder:{tmp_path / 'other'}"), stored)
    assert (found.data.validation_share, found.data.split_seed, found.data.validation_images) == (0.2, 3, 8)
    assert found.data == make_config(flags(tmp_path, data=f"folder:{tmp_path / 'other'}", seed=3), None).data


def test_another_seed_splits_the_images_of_a_study_like_another_anew(tmp_path: Path, pictures: Path) -> None:
    spec = f"folder:{pictures}"
    stored = make_config(flags(tmp_path, data=spec, seed=3), None)
    for more in ({}, {"data": spec}):
        found = make_config(flags(tmp_path, seed=5, **more), stored)
        assert found == make_config(flags(tmp_path, data=spec, seed=5), None)
        assert found.data.split_digest != stored.data.split_digest
        for same in ({}, {"seed": 3}):
            assert make_config(flags(tmp_path, **same, **more), stored) == stored
    with pytest.raises(StudyError, match="another --seed "):
        study_config.require_same("night", stored, found)
    of_another = stored.model_copy(update={"seed": 5})  # as --seed was taken before
    assert make_config(flags(tmp_path, seed=5), of_another) == of_another, "which goes on with its split"
