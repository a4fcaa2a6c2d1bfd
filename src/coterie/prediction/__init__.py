"""Stage 7, prediction: a trained net -> probabilities for every item; the model folder and the result table.

May not live here: training, labels, reports.
"""
