"""``/transparency``: the public log of opt-outs, how many there are of each state, and the proofs that anyone may ask.

Numbers and hashes; no id, text, name or URL of what was removed. Every proof is a JSON object with all that its check
needs (RFC 9162, sections 2.1.3.2 and 2.1.4.2), so no program of ours has to be trusted.
"""

from collections import Counter

from flask import Blueprint, Response, jsonify, request
from sqlalchemy import func, select
from werkzeug.exceptions import BadRequest

from datastore import log_rows, tables
from datastore import requests as asked
from datastore.heads import prove_growth
from datastore.manifest import read_manifest
from datastore.public_log import included, signed_head, tree_of
from datastore.request_states import State
from datastore.store import Datastore
from serving.pages import page
from serving.portal import Portal, portal_blueprint

DOCUMENT_STATES = (tables.LIVE, tables.HIDDEN, tables.REMOVED, tables.ERASED)


def blueprint(portal: Portal) -> Blueprint:
    """The pages, on the store of ``portal``."""
    routes = portal_blueprint("transparency")
    store = portal.store

    @routes.get("/transparency")
    def show() -> Response:
        return page(
            "portal/transparency.html",
            head=signed_head(store, now=portal.now()),
            documents=document_counts(store),
            requests=request_counts(store),
            epoch=store.epoch,
            chain=read_manifest(store.path).chain,
        )

    @routes.get("/transparency/head.json")
    def head() -> Response:
        return jsonify(signed_head(store, now=portal.now()).to_json())

    @routes.get("/transparency/keys.json")
    def keys() -> Response:
        return jsonify(read_manifest(store.path).chain.to_json())

    @routes.get("/transparency/counts.json")
    def counts() -> Response:
        return jsonify({"documents": document_counts(store), "requests": request_counts(store), "epoch": store.epoch})

    @routes.get("/transparency/inclusion.json")
    def inclusion() -> Response:
        _, n_leaves = tree_of(store)
        size = _number("size", n_leaves, highest=n_leaves)
        return jsonify(included(store, _leaf(store, size), size).to_json())

    @routes.get("/transparency/growth.json")
    def growth() -> Response:
        tree, n_leaves = tree_of(store)
        new = _number("new", n_leaves, highest=n_leaves)
        old = _number("old", None, highest=new)
        roots = {"old_root": tree.root(old).hex(), "new_root": tree.root(new).hex()}
        # What `silo datastore verify --growth` reads has no roots: the heads have them.
        grown = prove_growth(tree, old, new).to_json()
        return jsonify(grown if request.args.get("bare") == "1" else grown | roots)

    return routes


def document_counts(store: Datastore) -> dict[str, int]:
    """How many documents there are of each state."""
    d = tables.documents.c
    with store.catalog.read() as connection:
        rows = connection.execute(select(d.state, func.count()).group_by(d.state))
        found: dict[str, int] = {row[0]: row[1] for row in rows}
    return {state: found.get(state, 0) for state in DOCUMENT_STATES}


def request_counts(store: Datastore) -> dict[str, int]:
    """How many opt-out requests there are of each state."""
    found = Counter(one.state for one in asked.requests(store))
    return {state.value: found[state] for state in State}


def _leaf(store: Datastore, size: int) -> int:
    """The place of the leaf that the request asks for: by number, or by the commitment in a receipt."""
    wanted = request.args.get("leaf", "").strip().lower()
    if len(wanted) == 64:
        with store.catalog.read() as connection:
            place = log_rows.place_of(connection, wanted)
        if place is None or place >= size:
            raise BadRequest(f"no leaf of the log is {wanted:.16}…")
        return place
    return _number("leaf", None, highest=size - 1)


def _number(name: str, default: int | None, highest: int) -> int:
    """A whole number from 0 to ``highest`` in the request's query."""
    given = request.args.get(name, "").strip()
    if not given and default is not None:
        return default
    if not (given.isascii() and given.isdecimal() and len(given) < 12) or int(given) > highest:
        wanted = f"a whole number from 0 to {highest}" if highest >= 0 else "nothing: the log is empty"
        raise BadRequest(f"{name} must be {wanted}; got {given!r:.40}")
    return int(given)
