"""SILO: a parametric LM trained on licensed text, joined with a datastore that documents can leave.

This package holds the parametric half (documents, licenses, tokenizer, LM, checkpoint)
and the place where it meets the datastore (encoding, mixture, generation, attribution).
Importing it loads nothing heavy: name the module that you need.
"""

__version__ = "0.1.0"
