"""The keys of what commands write for programs, and what each means: docs/output.md is written from here.

Reads and writes nothing. Read by the commands, which give these keys in JSON and CSV and take them for
--columns, and by docs/render.py. Keys stay: one may be added, none is renamed or taken away within a version.
"""

from typing import Final

Fields = dict[str, str]

NETWORK: Final[Fields] = {
    "parameters": "trainable parameters",
    "macs": "multiply-accumulates of one image",
    "network": "in one line: stem, stages, what is not as usual",
    "fingerprint": "16 hexadecimal digits; the same for the same network",
}

STATUS: Final[Fields] = {
    "study": "name",
    "state": "running, waiting (nobody works on it), paused, stopping, stopped, done or broken",
    "order": "what its workers are told: run, pause, stop or stop_now; gave_up: the search ended by itself",
    "gave_up": "why it did: too many networks in a row came to nothing; null: it did not",
    "trained": "networks trained to the end, or pruned while training",
    "trials": "how many there are to be",
    "data": "name of the images",
    "score": "what it maximises: accuracy, balanced-accuracy or macro-f1; own: a function of --score",
    "max_params": "limit of trainable parameters",
    "max_macs": "limit of multiply-accumulates; null: none",
    "created": "when it was made",
    "optuna": "whether Optuna's part of it is there; without it the study can be looked at and deleted alone",
    "ledger": "proposals by what became of them, all states",
    "running": "the workers that hold a trial, each with the keys of `ps`",
    "best": "the leader with the keys of `best`; null: nothing was trained to the end",
    "baselines": "how many baselines the study has",
    "best_baseline": "what the best of them is; null: none was trained to the end",
    "baseline_accuracy": "its validation accuracy",
    "ahead": "accuracy of the best other network less that",
    "ahead_low": "lower end of its 95% interval",
    "ahead_high": "upper end of its 95% interval",
    "second_stage": "under way or over; null: the search ends with its trials",
    "winner": "trial that won the finals; null: they are not over, as in the keys below",
    "confirmed_accuracy": "its validation accuracy after full trainings, the mean over seeds",
    "confirmed_low": "lower end of its 95% interval over seeds; null with fewer than three, or equal ones",
    "confirmed_high": "upper end",
    "confirmed_score": "what was maximised, of validation images, the mean over seeds; null for accuracy",
    "test_accuracy": "its accuracy on test images, the mean over seeds",
    "test_low": "lower end of its 95% interval over seeds; null with fewer than three, or equal ones",
    "test_high": "upper end",
}

LIST: Final[Fields] = {
    "study": "name",
    "state": "as in `status`",
    "created": "when it was made",
    "data": "name of the images",
    "max_params": "limit of trainable parameters",
    "max_macs": "limit of multiply-accumulates; null: none",
    "trained": "networks trained to the end, or pruned while training",
    "trials": "how many there are to be",
    "best_accuracy": "validation accuracy of the leader; null: nothing was trained to the end",
    "parameters": "trainable parameters of the leader",
    "macs": "multiply-accumulates of the leader",
    "optuna": "whether Optuna's part of it is there",
    "minutes": "from the first proposal to the last end, pauses included; null: nothing was proposed",
    "host": "machine that it was launched on; null: not stored then",
}

TRIALS: Final[Fields] = {
    "trial": "number in the study: STUDY:137 names it",
    "state": "running, completed, pruned, over_budget, repeated, lost, out_of_memory, timed_out, diverged,"
    " failed or cancelled",
    "score": "what the search maximises, on validation images; null: that is accuracy",
    "accuracy": "validation accuracy after the last epoch",
    "best_accuracy": "validation accuracy after the best epoch",
    "loss": "validation loss after the last epoch",
    **NETWORK,
    "depth": "stages",
    "epochs": "that it was trained for",
    "seconds": "that its training took",
    "images_per_second": "of its training",
    "batch_size": "that it was trained with: smaller than the recipe's where memory was short",
    "seed": "of its training",
    "attempt": "1, or more after a worker was lost",
    "repeat_of": "number of the trial that has the same network",
    "baseline": "what baseline it is; null: none",
    "device": "that it was trained on",
    "worker": "that trained it",
    "proposed": "when it was proposed",
    "finished": "when it ended",
    "reason": "why it is in its state, the last line",
    "knobs": "what Optuna has for it, by name",
    "architecture": "the network as a document",
}

BEST: Final[Fields] = {
    "trial": "number in the study",
    "score": "what the search maximises, on validation images; null: that is accuracy",
    "accuracy": "validation accuracy after the last epoch",
    "low_accuracy": "lower end of its 95% interval",
    "high_accuracy": "upper end of its 95% interval",
    **NETWORK,
    "epochs": "that it was trained for",
    "baseline": "what baseline it is; null: none",
}

PS: Final[Fields] = {
    "worker": "name",
    "state": "starting, waiting (others hold what is left), paused, choosing (a network), training, or silent"
    " (not heard of for half the time after which it is taken for dead)",
    "host": "machine that it runs on; null: not known",
    "pid": "number of its process there",
    "heard": "seconds since it was last heard of",
    "device": "that it trains on; null: not known yet",
    "trial": "number in the study; null: it has none",
    "epoch": "the last that was stored",
    "accuracy": "validation accuracy after it",
    "parameters": "trainable parameters",
    "macs": "multiply-accumulates of one image",
    "seconds": "since it took the trial",
}

TRAININGS: Final[Fields] = {
    "network": "as it was named: STUDY:TRIAL, a file's name or published:NAME",
    "study": "whose trial it is; null: none",
    "trial": "number in that study",
    "seed": "of the training",
    "data": "name of the images",
    "epochs": "that it was trained for",
    "validation_accuracy": "after the last epoch",
    "best_accuracy": "validation accuracy after the best epoch",
    "best_epoch": "which that was",
    "loss": "validation loss after the last epoch",
    "test_accuracy": "on the test images, read once; null: not read",
    "test_loss": "on the test images",
    "test_images": "how many there are",
    "parameters": "trainable parameters",
    "macs": "multiply-accumulates of one image",
    "fingerprint": "16 hexadecimal digits; the same for the same network",
    "seconds": "that the training took",
    "device": "that it was trained on",
    "finished": "when it ended",
    "folder": "of weights, figures and checkpoints",
}

CONFIRM: Final[Fields] = {
    "rank": "1 is the best by full_score, where that is null by full_accuracy",
    "network": "STUDY:TRIAL, or as --also named it",
    "baseline": "what baseline it is; null: none",
    "brief_score": "what the study maximises, of the search's own training; null: that is accuracy",
    "full_score": "the same, mean over the seeds; null: that is accuracy",
    "brief_accuracy": "of the search's own training; null: none of its trials trained it to the end",
    "full_accuracy": "validation accuracy, mean over the seeds",
    "full_interval": "95% interval of that mean, as text; null: fewer than three seeds, or equal ones",
    "full_by_seed": "validation accuracy of each seed",
    "test_accuracy": "mean over the seeds; null: there are no test images",
    "test_interval": "95% interval of that mean, as text; null: fewer than three seeds, or equal ones",
    "test_by_seed": "accuracy on test images of each seed",
    "parameters": "trainable parameters",
    "macs": "multiply-accumulates of one image",
}

SHOW: Final[Fields] = {
    "layer": "name of the module",
    "kind": "of layer",
    "output": "channels x height x width",
    "parameters": "trainable parameters",
    "macs": "multiply-accumulates of one image",
}

EXPLAIN: Final[Fields] = {
    "network": "STUDY:TRIAL, a file's name or published:NAME",
    "fingerprint": "16 hexadecimal digits; the same for the same network",
    "parameters": "trainable parameters",
    "macs": "multiply-accumulates of one image",
    "max_params": "limit of trainable parameters",
    "max_macs": "limit of multiply-accumulates; null: none",
    "fits": "whether it is within both",
    "excess": "what is over, in words; null: it fits",
    "parts": "an object for each part, the last of which is `all`: `part`, `built` (in words), `parameters`,"
    " `parameter_share`, `macs`, `mac_share`",
    "layers": "with --layers alone: each layer with the keys of `show`",
    "repairs": "the nearest networks that fit, an object each: `change` (in words), `parameters`, `macs`,"
    " `kept_share` (0 to 1), `file` (that --repair writes), `fingerprint`, `architecture`; empty if it fits"
    " or nothing does",
}

PUBLISHED: Final[Fields] = {
    "name": "published:NAME names it elsewhere",
    "source": "the system, and where it is printed",
    "printed": "parameters that its authors state; null: none",
    "parameters": "trainable parameters, counted",
    "macs": "multiply-accumulates of one image",
    "reported_accuracy": "that its authors state; null: none",
    "counted_by": "what the count was checked against: layers, total, code or guess",
    "misprinted": "whether the printed count is not that of the network",
    "note": "what else to know of it; null: nothing",
}

SPACE_SHOW: Final[Fields] = {
    "knob": "its place in a space file; what holds for large images alone says so",
    "values": "that it may have, in words",
    "drawn": "how one of them is drawn, in words",
}

SPACE_CHECK: Final[Fields] = {
    "max_params": "limit of trainable parameters",
    "max_macs": "limit of multiply-accumulates; null: none",
    "max_macs_default": "why a launch has this limit unless told otherwise; null where it was said",
    "fit": "plain draws within the budget: `share`, its 95% interval `low` and `high`, `hits`, `draws`",
    "upper_half": "the same of those that use more than half of a limit too",
    "smallest": "`parameters` and `macs` of the smallest network",
    "largest_drawn": "the same of the largest that was drawn",
    "largest": "the same of the largest that there is",
    "networks": "how many different ones there are, in and out of the budget; an integer of any size",
    "trials": "networks that the search would train",
    "proposals_by_reject": "plain draws until so many fit, on average; null: none did",
    "helps": "where hardly a draw fits, what those have in common that do: objects as in `causes`, with"
    " `of_fits` for `of_misses`",
    "causes": "what draws over the budget have in common: `knob`, `value`, `of_misses` (share of them),"
    " `of_draws` (share of all), `lift` (the one over the other)",
    "macs_by_fit": "multiply-accumulates of proposals: quantiles of 5, 50 and 95%: `low`, `middle`, `high`",
    "macs_by_reject": "the same of plain draws that fit; null: none did",
    "warning": "that hardly a draw fits; null: enough do",
    "proposals": "what proposals are like: `draws`, `shares` (0 to 1, by what they are called in words),"
    " `macs_median`, `macs_p90`, `macs_max`, `dearest_tenth` (its share of all multiply-accumulates)",
    "time": "`minutes` of the search, `workers`, `epochs`, `images` (an epoch), `trial_seconds` (the mean),"
    " `device`, `points` (what was timed); null: --no-minutes",
}

SPACE_SAMPLE: Final[Fields] = {
    "sample": "1 is the first",
    "parameters": "trainable parameters",
    "macs": "multiply-accumulates of one image",
    "fingerprint": "16 hexadecimal digits; the same for the same network",
    "architecture": "the network as a document",
}

PREDICT: Final[Fields] = {"image": "file", "class": "name", "probability": "0 to 1"}

DATA: Final[Fields] = {
    "class": "name",
    "train": "training images of it",
    "validation": "validation images of it",
    "test": "test images of it; null: not counted",
}

VERIFY: Final[Fields] = {
    "check": "schema, count, budget, fingerprint, forward pass; of some files also graph, source, training or"
    " weights",
    "found": "in words",
}

COMPARE: Final[Fields] = {
    "label": "A, B, C...: what other keys and lines call it",
    "study": "name",
    "data": "name of the images",
    "validation_images": "that its scores are measured on",
    "trials": "networks trained to the end, or pruned while training",
    "completed": "networks trained to the end",
    "networks": "distinct networks trained",
    "images": "trained on in all: epochs times training images",
    "device_seconds": "that devices were busy in all",
    "best": "the best of all with the keys of `best`; null: nothing was trained to the end",
    "at_equal_trials": "`limit`, the smallest number of trials of any of the studies, and `best`, the best"
    " by then with the keys of `best` or null",
    "at_equal_images": "the same at the smallest number of images trained on",
    "at_equal_seconds": "the same at the smallest number of device-seconds",
    "curve": "each time that the best became better: `trials`, `images`, `device_seconds` by then, `trial`"
    " and `accuracy` of the new best (`score` as in `best`)",
    "winner": "of the finals: `trial`, `seeds`, `tested_seeds` (those that were tested on the same images, of"
    " which `test_accuracy` is; 0: none), `epochs`, `accuracy` (validation, the mean over seeds),"
    " `low`, `high` (95% over seeds; null with fewer than three, or equal ones), `test_accuracy`, `test_low`,"
    " `test_high`, `parameters`, `macs`; null: they are not over",
    "against": "an object for each study named later: `label`, `study`, `comparable` (brief scores),"
    " `reasons` (why not), `at_equal_trials`, `at_equal_images`, `at_equal_seconds` (the differences of"
    " the bests, this study less that one: `points`, 0 to 1, `low`, `high`, `verdict`, which is ahead,"
    " behind or not clear; null: not comparable, or one has none), `final` and `final_test` (the same of"
    " the winners of the finals, with `reasons`; `points` null: not comparable, `low` and `high` null:"
    " fewer than three seeds, or equal ones), `shared` (networks trained in both), `shared_completed` (to the"
    " end in both), `shared_difference` (their mean difference of scores, with `low` and `high` over"
    " networks; null: fewer than three), `tau` (Kendall's, with `low` and `high`)",
    "settings": "what the studies do not have all alike, by its dotted name, and its value here",
}

BY_COMMAND: Final = {
    "data": DATA,
    "status": STATUS,
    "list": LIST,
    "trials": TRIALS,
    "best": BEST,
    "ps": PS,
    "compare": COMPARE,
    "train": TRAININGS,
    "trainings": TRAININGS,
    "confirm": CONFIRM,
    "show": SHOW,
    "explain": EXPLAIN,
    "published": PUBLISHED,
    "space show": SPACE_SHOW,
    "space check": SPACE_CHECK,
    "space sample": SPACE_SAMPLE,
    "predict": PREDICT,
    "verify": VERIFY,
}

ONE_OBJECT: Final = ("explain", "space check")  # whose JSON is no list
NO_CSV: Final = (*ONE_OBJECT, "space sample")
