"""Stage 6, training: the only training loop, and what it needs: seeds, checkpoints, history, health, processes.

May not live here: losses, labels, anything that asks which method it trains; methods are seen through
`coterie.contract`.
"""
