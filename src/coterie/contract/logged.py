"""Names in the report for numbers that several methods log, with a hint how to read each, for `Card.logs`."""

from __future__ import annotations

EXPLAINED = ("explained variance", "share that the reconstruction explains; 0 at first, then it should rise")
LATENT_STD = ("spread of the code", "near 0 is a collapse")
EMBEDDING_STD = ("spread of the embedding", "near 0 is a collapse")
CHANGED = ("changed labels", "share since the last look; few end the stage")
CONFIDENCE = ("mean confidence", "while training")
CERTAIN = ("share of confidences from 98 %", "while training")
SELECTED = ("selected share", "items sure enough to teach the others")
TARGET_CONFIDENCE = ("mean confidence of the targets", "the calibrated confidence should come close to it")
