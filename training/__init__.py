"""Licensed text to checkpoint: admission, tokenizer, batches, optimizer, loop.

Reaches the parametric half of ``silo`` only; it cannot import the datastore, even by way of another module.
"""
