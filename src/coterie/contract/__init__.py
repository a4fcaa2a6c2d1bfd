"""What a method offers to the engine: a card, a small core, a second protocol for methods that train, and options.

`card` is the entry in the catalogue, `method` holds the two protocols, `options` everything that a method may offer
besides, each with the one function that reads it, and `members` checks a class from outside. A method is a frozen
dataclass of its hyperparameters; everything learned or remembered is a part of the net. To vary a method, write a new
file or wrap one: nothing here is inherited.
"""

from coterie.contract.card import Card, Facts, OnlyIf, Pass, Reading, Step, View, epochs_for, iterations_for
from coterie.contract.method import Method, Trained, is_trained, name_of, setting_names
from coterie.contract.options import (
    begin_epoch,
    begins_epochs,
    calibrated,
    check,
    finds_groups,
    finish,
    found,
    gives_logits,
    heads_of,
    limits_of,
    logits_of,
    optimisers_of,
    part_size_of,
    passes_of,
    predict,
    rates_of,
    start,
    trained_by,
    views_of,
)

__all__ = [
    "Card",
    "Facts",
    "Method",
    "OnlyIf",
    "Pass",
    "Reading",
    "Step",
    "Trained",
    "View",
    "begin_epoch",
    "begins_epochs",
    "calibrated",
    "check",
    "epochs_for",
    "finds_groups",
    "finish",
    "found",
    "gives_logits",
    "heads_of",
    "is_trained",
    "iterations_for",
    "limits_of",
    "logits_of",
    "name_of",
    "optimisers_of",
    "part_size_of",
    "passes_of",
    "predict",
    "rates_of",
    "setting_names",
    "start",
    "trained_by",
    "views_of",
]
