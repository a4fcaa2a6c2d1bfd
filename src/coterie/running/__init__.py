"""The parts of a run: what is resolved and checked before it, and its stages in their order. `pipeline.py` runs them.

- `deciding`: what `auto` comes to; `finetuning`: a run on embeddings that teaches their encoder
- `judgements`: items of another run that people judged; `beginning`: what the backbone begins with
- `opening`: the run's source, read or embedded; `preparing`: all that can be refused before training
- `prepared`: a run that is ready to begin
- `stages`: the training of each stage and the calibration; `forecast`: how long they will take

May not live here: the loop over batches (`training/`), readers of true labels (`evaluation/`, `yardstick.py`).
"""
