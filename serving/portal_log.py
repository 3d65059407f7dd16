"""``/transparency``: the public log of opt-outs, how many there are of each state, and the proofs that anyone may ask.

Numbers and hashes; no id, text, name or URL of what was removed. Every proof is a JSON object with all that its check
needs (RFC 9162, sections 2.1.3.2 and 2.1.4.2), so no program of ours has to be trusted.
"""

from collections import Counter
from typing import Any

from flask import Blueprint, Response, jsonify, request
from sqlalchemy import func, select
from werkzeug.exceptions import BadRequest

from datastore import catalog
from datastore import requests as asked
from datastore.heads import prove_growth
from datastore.log import inclusion_proof, root
from datastore.manifest import read_manifest
from datastore.public_log import signed_head
from datastore.request_states import State
from datastore.store import Datastore
from serving.pages import page
from serving.portal import Portal, portal_blueprint

INCLUSION_FORMAT = "silo-log-inclusion/1"
DOCUMENT_STATES = (catalog.LIVE, catalog.HIDDEN, catalog.REMOVED, catalog.ERASED)


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
        leaves = _leaves(store)
        size = _number("size", len(leaves), highest=len(leaves))
        return jsonify(included(leaves[:size], _leaf(leaves[:size])))

    @routes.get("/transparency/growth.json")
    def growth() -> Response:
        leaves = _leaves(store)
        new = _number("new", len(leaves), highest=len(leaves))
        old = _number("old", None, highest=new)
        roots = {"old_root": root(leaves[:old]).hex(), "new_root": root(leaves[:new]).hex()}
        # What `silo datastore verify --growth` reads has no roots: the heads have them.
        grown = prove_growth(leaves[:new], old).to_json()
        return jsonify(grown if request.args.get("bare") == "1" else grown | roots)

    return routes


def document_counts(store: Datastore) -> dict[str, int]:
    """How many documents there are of each state."""
    d = catalog.documents.c
    with store.catalog.read() as connection:
        rows = connection.execute(select(d.state, func.count()).group_by(d.state))
        found: dict[str, int] = {row[0]: row[1] for row in rows}
    return {state: found.get(state, 0) for state in DOCUMENT_STATES}


def request_counts(store: Datastore) -> dict[str, int]:
    """How many opt-out requests there are of each state."""
    found = Counter(one.state for one in asked.requests(store))
    return {state.value: found[state] for state in State}


def included(leaves: list[bytes], index: int) -> dict[str, Any]:
    """The proof that leaf ``index`` is in the log of ``leaves``."""
    return {
        "format": INCLUSION_FORMAT,
        "leaf": leaves[index].hex(),
        "leaf_index": index,
        "size": len(leaves),
        "root": root(leaves).hex(),
        "proof": [node.hex() for node in inclusion_proof(leaves, index)],
    }


def _leaf(leaves: list[bytes]) -> int:
    """The leaf that the request asks for: by number, or by the commitment in a receipt."""
    wanted = request.args.get("leaf", "").strip().lower()
    if len(wanted) == 64:
        try:
            return leaves.index(bytes.fromhex(wanted))
        except ValueError:
            raise BadRequest(f"no leaf of the log is {wanted:.16}…") from None
    return _number("leaf", None, highest=len(leaves) - 1)


def _number(name: str, default: int | None, highest: int) -> int:
    """A whole number from 0 to ``highest`` in the request's query."""
    given = request.args.get(name, "").strip()
    if not given and default is not None:
        return default
    if not (given.isascii() and given.isdecimal() and len(given) < 12) or int(given) > highest:
        wanted = f"a whole number from 0 to {highest}" if highest >= 0 else "nothing: the log is empty"
        raise BadRequest(f"{name} must be {wanted}; got {given!r:.40}")
    return int(given)


def _leaves(store: Datastore) -> list[bytes]:
    with store.catalog.read() as connection:
        return catalog.leaves(connection)
