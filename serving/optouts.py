"""Taking documents out: at once for those who run the service, and with a proof for those who own a text.

``POST /v1/optouts`` takes a document out and answers with the signed receipt: 201 for the removal itself, 200 with the
same receipt when asked again. With keys it is for ``admin`` alone.

``/v1/opt-outs`` is the way of owners: open a request, ask for a challenge, answer it. A proof by the submitter's key or
by the document's host is accepted at once; possession of the text hides the document until somebody decides. Whoever
asks about a request that is another's gets the answer that they would get if there were none: a request that was opened
with a key is that key's, and one that was opened without is known to those who know its id, 128 random bits.
"""

import secrets
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, g, jsonify, request

from datastore import requests
from datastore.errors import RequestConflict, UnknownRequest
from datastore.hosts import HostFacts
from datastore.optout import given_receipt
from datastore.ownership import Challenge, HostProof, KeyProof, Method, Possession, Proof
from datastore.request_states import Request, State
from datastore.store import Datastore
from serving.access import begin, current_key, needs
from serving.bodies import received
from serving.document_schemas import ChallengeRequest, DecisionRequest, OptOutOpening, OptOutRequest, ProofRequest
from serving.engine import Engine
from serving.keys import Scope
from silo.errors import BadRequest

ANONYMOUS = "anyone"


def blueprint(engine: Engine, hosts: HostFacts | None = None) -> Blueprint:
    """The endpoints, answering from ``engine``; ``hosts`` asks hosts for proofs."""
    routes = Blueprint("optouts", __name__)

    @routes.post("/v1/optouts")
    @needs(Scope.ADMIN)
    def opt_out() -> tuple[Response, int]:
        receipt, is_new = engine.opt_out(received(OptOutRequest).document)
        return jsonify(receipt.to_json()), 201 if is_new else 200

    @routes.post("/v1/opt-outs")
    @needs(Scope.OWNER)
    def open_request() -> tuple[Response, int]:
        begin(0)
        asked = received(OptOutOpening)
        name = asked.idempotency_key or secrets.token_hex(16)
        made = requests.open_request(engine.whole_store(), asked.document, key=f"{_who()} {name}", now=engine.now())
        if (opener := current_key()) is not None:
            g.access.book.remember_opener(made.id, opener.id)
        return jsonify(request_json(made)), 201

    @routes.get("/v1/opt-outs")
    @needs(Scope.ADMIN)
    def index() -> Response:
        state = request.args.get("state")
        if state is not None and state not in list(State):
            raise BadRequest(f"state must be one of {', '.join(State)}; got {state!r:.80}")
        found = requests.requests(engine.whole_store(), None if state is None else State(state))
        return jsonify({"object": "list", "data": [request_json(one) for one in found]})

    @routes.get("/v1/opt-outs/<id>")
    @needs(Scope.OWNER)
    def show(id: str) -> Response:  # noqa: A002
        return jsonify(request_json(_own(engine.whole_store(), id)))

    @routes.post("/v1/opt-outs/<id>/challenge")
    @needs(Scope.OWNER)
    def challenge(id: str) -> Response:  # noqa: A002
        begin(0)
        asked = received(ChallengeRequest)
        own = _own(engine.whole_store(), id)
        made = requests.challenge(engine.whole_store(), own.id, Method(asked.method), now=engine.now())
        return jsonify(challenge_json(made))

    @routes.post("/v1/opt-outs/<id>/proof")
    @needs(Scope.OWNER)
    def prove(id: str) -> Response:  # noqa: A002
        begin(0)
        proof, store = _proof(received(ProofRequest)), engine.whole_store()
        own = _own(store, id)
        proven = requests.prove(store, own.id, proof, now=engine.now(), hosts=hosts, requester=_requester())
        if proven.state is State.VERIFIED:
            note = f"proven by {proven.method}"
            proven = requests.decide(store, own.id, State.ACCEPTED, now=engine.now(), note=note)
        return jsonify(request_json(proven))

    @routes.post("/v1/opt-outs/<id>/decision")
    @needs(Scope.ADMIN)
    def decide(id: str) -> Response:  # noqa: A002
        asked = received(DecisionRequest)
        decided = requests.decide(engine.whole_store(), id, State(asked.decision), now=engine.now(), note=asked.note)
        return jsonify(request_json(decided))

    @routes.get("/v1/opt-outs/<id>/receipt")
    @needs(Scope.OWNER)
    def receipt(id: str) -> Response:  # noqa: A002
        store = engine.whole_store()
        own = _own(store, id)
        given = given_receipt(store, own.document) if own.accepted_at else None
        if given is None:
            raise RequestConflict(f"the request is {own.state}; there is a receipt once it is accepted")
        return jsonify(given.to_json())

    return routes


def request_json(one: Request) -> dict[str, Any]:
    """A request as the endpoints show it."""
    return {"object": "opt_out"} | asdict(one) | {"state": one.state.value}


def challenge_json(made: Challenge) -> dict[str, Any]:
    """A challenge as it is told, once."""
    return {
        "object": "opt_out.challenge",
        "method": made.binding.method,
        "token": made.token,
        "expires_at": made.binding.expires_at,
        "place": made.place,
        "content": made.content,
        "message": made.message.decode(),
    }


def _proof(asked: ProofRequest) -> Proof:
    match asked.method:
        case "key":
            return KeyProof(asked.token or "", asked.signature or "")
        case "possession":
            return Possession(asked.text or "")
        case _:
            return HostProof(asked.token or "")


def _who() -> str:
    """For whom a request is opened: part of its idempotency key, so that keys of two accounts never meet."""
    key = current_key()
    return ANONYMOUS if key is None else key.id


def _requester() -> str:
    """By whom hiding is rationed."""
    return _who() if current_key() is not None else f"address {request.remote_addr}"


def _own(store: Datastore, id: str) -> Request:  # noqa: A002
    """The request, if it is that of whoever asks. Raises UnknownRequest, the same for those of others."""
    key = current_key()
    # Whose it is comes first: of a request of another's nothing is read, so it takes no longer than one that never was.
    if key is not None and not key.may(Scope.ADMIN) and not g.access.book.is_opener(id, key.id):
        raise UnknownRequest(f"no opt-out request {id!r:.80}")
    return requests.request(store, id)
