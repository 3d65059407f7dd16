"""The nonparametric half: an attributable key-value store that documents can leave exactly.

Works on arrays, ids and character spans; it has never heard of a language model. So a
removal, its receipt and its verification run on a machine without torch.
Importing the package loads nothing heavy: name the module that you need.
"""
