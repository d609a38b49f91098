"""Weights of choices: read from a table, kept by the store, followed by every draw, and moved by trials."""

import copy
import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import optuna
import pytest

from search.optuna_adapter.sampler import make_sampler
from search.optuna_adapter.weights import weigh
from space import sampling, space as spaces
from space.errors import SpaceError
from space.random_suggest import RandomSuggest
from space.space import SearchSpace
from space.weights import Weighted

ROOT = Path(__file__).parents[2]
SHARES = {1: 0.1, 3: 0.7, 5: 0.2}
FILE = """
depth = { 1 = 1, 2 = 3 }
[width]
round_to = { 8 = 3, 1 = 1 }
[stem]
max_pool = { false = 3, true = 1 }
width_ratio = { 0.5 = 1, 0.75 = 2, 1.0 = 5 }
[stage]
kernel = { 1 = 1, 3 = 7, 5 = 2 }
[same]
kernel = { true = 1, false = 1 }
[block]
activation = { relu = 6, leaky_relu = 0.5 }
"""


def read(text: str, tmp_path: Path) -> SearchSpace:
    path = tmp_path / "space.toml"
    path.write_text(text)
    return spaces.load(path)


def test_the_keys_of_a_table_are_numbers_truths_and_names(tmp_path: Path) -> None:
    found = read(FILE, tmp_path)
    assert found.stage.kernel == Weighted({1: 1, 3: 7, 5: 2})
    assert found.stem.max_pool == Weighted({False: 3, True: 1})
    assert found.stem.width_ratio == Weighted({0.5: 1, 0.75: 2, 1.0: 5}), "dots without quotes"
    assert found.block.activation == Weighted({"relu": 6, "leaky_relu": 0.5})
    assert found.depth == Weighted({1: 1, 2: 3}) and found.width.round_to == Weighted({8: 3, 1: 1})


def test_weights_survive_the_store_and_a_copy_and_are_part_of_what_is_equal(tmp_path: Path) -> None:
    found = read(FILE, tmp_path)
    again = SearchSpace.model_validate_json(json.dumps(found.model_dump(mode="json")))
    assert again == found == copy.deepcopy(found)
    assert found != read(FILE.replace("3 = 7", "3 = 8"), tmp_path)
    assert Weighted({1: 1, 3: 2}) != (1, 3) and Weighted({1: 1}) != Weighted({1: 2})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[stage]\nkernel = { 3 = 0 }", "stage.kernel: 3: a weight is a number above 0 .*, not 0"),
        ("[stage]\nkernel = { 3 = -1 }", "stage.kernel: 3: a weight"),
        ("[stage]\nkernel = { 3 = true }", "stage.kernel: 3: a weight is .*, not True"),
        ("[stage]\nkernel = { 3 = inf }", "stage.kernel: 3: a weight"),
        ('[stage]\nkernel = { 3 = "6" }', "stage.kernel: 3: a weight"),
        ("[stage]\nkernel = { 4 = 1 }", "stage.kernel.0: kernel 4 is even"),
        ("[stage]\nkernel = { 3.5 = 1 }", "stage.kernel.0: .*integer"),
        ('[stage]\nkernel = { 3 = 1, "03" = 1 }', "stage.kernel: 03: stands twice"),
        ("[stem]\nmax_pool = { yes = 1 }", "stem.max_pool.0: .*boolean .*'yes'"),
        ("[block]\nactivation = { relu6 = 1 }", "block.activation.0: .*'relu6'"),
        ("depth = { low = 1, hihg = 3 }", "depth.*: "),
        ("[stages.2]\nwidth_ratio = [2.0]\n[same]\nwidth_ratio = [true]", "same.width_ratio: stages.2 has"),
    ],
)
def test_a_bad_table_is_refused_with_its_place(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=problem) as caught:
        read(text, tmp_path)
    assert str(caught.value).isprintable()


def test_truths_may_be_repeated_as_every_other_choice(tmp_path: Path) -> None:
    found = read("[stem]\nmax_pool = [false, false, true]", tmp_path)
    drawn = Counter(sampling.draw(found, RandomSuggest(seed)).max_pool for seed in range(3_000))
    assert_shares(drawn, {False: 2 / 3, True: 1 / 3})


def assert_shares(drawn: Counter[Any], shares: dict[Any, float]) -> None:
    """No value more than 4 standard errors from its share: one in 16,000 for each."""
    total = sum(drawn.values())
    assert set(drawn) <= set(shares)
    for value, share in shares.items():
        assert abs(drawn[value] / total - share) <= 4 * (share * (1 - share) / total) ** 0.5, (value, drawn)


def test_plain_draws_follow_the_weights(tmp_path: Path) -> None:
    found, dice = read(FILE, tmp_path), RandomSuggest(5)
    drawn: dict[str, Counter[Any]] = {name: Counter() for name in ("kernel_1", "stem_width_ratio", "depth")}
    for _ in range(4_000):
        dice.clear()
        sampling.draw(found, dice)
        for name in drawn.keys() & dice.answers.keys():
            drawn[name][dice.answers[name]] += 1
    assert_shares(drawn["kernel_1"], SHARES)
    assert_shares(drawn["stem_width_ratio"], {0.5: 1 / 8, 0.75: 2 / 8, 1.0: 5 / 8})
    assert_shares(drawn["depth"], {1: 0.25, 2: 0.75})


def test_the_prior_names_every_question_with_weights_as_draws_ask_it(tmp_path: Path) -> None:
    found, asked = read(FILE, tmp_path), set[str]()
    for seed in range(300):
        trial = Listening(seed)
        sampling.draw(found, trial)
        asked |= trial.weighted
    prior = sampling.prior(found)
    assert set(prior) == asked
    assert prior["kernel_2"] == prior["kernel"] == pytest.approx(SHARES)
    assert prior["activation"] == pytest.approx({"relu": 12 / 13, "leaky_relu": 1 / 13})
    assert sampling.prior(SearchSpace()) == {}


class Listening(RandomSuggest):
    """Notes which questions came with weights."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.weighted = set[str]()

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        if isinstance(choices, Weighted):
            self.weighted.add(name)
        return super().suggest_categorical(name, choices)


@pytest.mark.parametrize("name", ["tpe", "random", "gp"])
def test_the_first_trials_of_every_sampler_follow_the_weights_and_store_plain_values(name: Any) -> None:
    drawn = Counter[Any]()
    for seed in range(400):
        study = optuna.create_study(sampler=weigh(make_sampler(name, seed), {"kernel": SHARES}))
        trial = study.ask()
        drawn[trial.suggest_categorical("kernel", Weighted({1: 1, 3: 7, 5: 2}))] += 1
        assert study.trials[0].params["kernel"] in (1, 3, 5)
        assert study.trials[0].distributions["kernel"].choices == (1, 3, 5)
    assert_shares(drawn, SHARES)


def finished(best: int, count: int) -> optuna.Study:
    """A study of which the trials with this kernel are the good ones."""
    study = optuna.create_study(direction="maximize")
    kernels = optuna.distributions.CategoricalDistribution((1, 3, 5))
    for i in range(count):
        kernel = (1, 3, 5)[i % 3]
        value = (0.9 if kernel == best else 0.5) + i / 10_000
        study.add_trial(
            optuna.create_trial(params={"kernel": kernel}, distributions={"kernel": kernels}, value=value)
        )
    return study


def proposals(study: optuna.Study, weights: dict[str, dict[Any, float]]) -> Counter[Any]:
    found, running = Counter[Any](), study.ask()
    assert not running.params
    for seed in range(120):
        study.sampler = weigh(make_sampler("tpe", seed), weights)
        relative = study.sampler.sample_relative(
            study, study.trials[running.number], {"kernel": study.trials[0].distributions["kernel"]}
        )
        found[relative["kernel"]] += 1
    return found


def test_trials_overrule_the_weights() -> None:
    """5 is drawn in a fifth of the first trials; where it is what works, TPE proposes it nearly always."""
    assert proposals(finished(best=5, count=60), {"kernel": SHARES})[5] > 100


def test_tpe_mixes_the_weights_into_its_densities_where_the_even_prior_was() -> None:
    study = finished(best=3, count=30)
    space = {"kernel": study.trials[0].distributions["kernel"]}
    made = weigh(make_sampler("tpe", 1), {"kernel": SHARES})
    even = make_sampler("tpe", 1)
    assert isinstance(made, optuna.samplers.TPESampler) and isinstance(even, optuna.samplers.TPESampler)
    observed = {"kernel": np.array([1.0, 1.0, 2.0])}
    parameters = even._parzen_estimator_parameters
    ours = made._parzen_estimator_cls(observed, space, parameters)._mixture_distribution.distributions[0]
    optunas = even._parzen_estimator_cls(observed, space, parameters)._mixture_distribution.distributions[0]
    assert ours.weights[-1] == pytest.approx(list(SHARES.values())), "the prior's own part"
    assert optunas.weights[-1] == pytest.approx([1 / 3] * 3)
    smooth = 3 / 4 * np.array(list(SHARES.values()))  # as much as Optuna spreads evenly: 1/4 a choice
    assert ours.weights[0] == pytest.approx((smooth + np.eye(3)[1]) / 1.75)
    assert optunas.weights[0] == pytest.approx((1 / 4 + np.eye(3)[1]) / 1.75)
    none = made._parzen_estimator_cls({"kernel": np.array([])}, space, parameters)
    assert none._mixture_distribution.distributions[0].weights[0] == pytest.approx(list(SHARES.values()))


def test_even_weights_are_optunas_own_numbers_and_no_weights_its_own_sampler() -> None:
    study = finished(best=3, count=30)
    assert proposals(study, {"kernel": dict.fromkeys((1, 3, 5), 1 / 3)}) == proposals(study, {})
    plain = make_sampler("tpe", 1)
    assert weigh(plain, {}) is plain


def test_the_schema_takes_lists_and_tables_of_weights() -> None:
    schema = spaces.schema()
    kernel = schema["$defs"]["StageKnobs"]["properties"]["kernel"]
    assert [found["type"] for found in kernel["anyOf"]] == ["array", "object"]
    assert kernel["anyOf"][1]["additionalProperties"]["anyOf"][0]["exclusiveMinimum"] == 0
    assert "same" in schema["properties"]


def valid(document: dict[str, Any]) -> bool:
    return bool(jsonschema.Draft202012Validator(spaces.schema()).is_valid(document))


TEXTS = [(ROOT / name).read_text() for name in ("space/default.toml", "space/published.toml")]
EXAMPLES = (ROOT / "docs/space.md").read_text().split("```toml")[1:]


@pytest.mark.parametrize("text", [FILE, *TEXTS, *(example.split("```")[0] for example in EXAMPLES)])
def test_the_schema_takes_our_own_files_and_the_examples_of_the_documents(text: str) -> None:
    assert valid(tomllib.loads(text))
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize(
    ("document", "is_valid"),
    [
        ({"depth": {"low": 1, "high": 3}}, True),
        ({"head": {"dropout": {"low": 0.0, "high": 0.5, "step": 0.1}}}, True),
        ({"width": {"round_to": 4}}, True),
        ({"width": {"round_to": [8, 1]}}, True),
        ({"stage": {"growth": {"step": 3, "linear": 1}}}, True),
        ({"depth": 3}, False),
        ({"depth": {"low": 1}}, False),
        ({"stage": {"kernel": {"low": 3, "high": 7}}}, False),
        ({"stage": {"kernel": {"3": 0}}}, False),
        ({"width": {"round_to": 0}}, False),
    ],
)
def test_the_schema_and_the_program_agree(document: dict[str, Any], is_valid: bool) -> None:
    assert valid(document) == is_valid
    if is_valid:
        spaces.parse(document)
    else:
        with pytest.raises(SpaceError):
            spaces.parse(document)


@pytest.mark.parametrize("value", [0.00005, 1e-05, 1.5e-06, 0.0001, 0.1, 1.0, 1e-12])
def test_a_small_choice_survives_the_store(value: float) -> None:
    space = SearchSpace(head=spaces.HeadKnobs(dropout=Weighted({0.0: 1, value / 2: 2})))
    stored = space.model_dump(mode="json")
    assert "e" not in "".join(stored["head"]["dropout"])
    assert SearchSpace.model_validate_json(json.dumps(stored)) == space
    before = {"stage": {"width_ratio": {str(value): 1}}}
    assert spaces.parse(before).stage.width_ratio == Weighted({value: 1})


def test_images_above_a_size_have_knobs_of_their_own() -> None:
    default = spaces.default()
    small, large = default.for_images(64), default.for_images(65)
    assert small.large_images is None is large.large_images
    assert small.stem == default.stem
    assert isinstance(large.stem.stride, Weighted) and large.stem.stride.shares[2] > 0.8
    assert large.stem.width_ratio == default.stem.width_ratio and large.stage == default.stage
