"""Measuring: how well a model predicts text, document by document, and what the figures say of it.

Reads models and documents; trains, stores and serves nothing.
"""
