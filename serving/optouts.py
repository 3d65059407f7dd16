"""``POST /v1/optouts``: takes a document out of the datastore and answers with the signed receipt.

In force when the answer is sent: 201 for the removal itself, 200 with the same receipt when asked again.
The body of the answer is the receipt as ``silo datastore verify`` reads it. Who may ask is not decided
here: whoever reaches the server may, so it listens on this machine alone unless told otherwise.
"""

from flask import Blueprint, Response, jsonify

from serving.bodies import received
from serving.engine import Engine
from serving.schemas import OptOutRequest


def blueprint(engine: Engine) -> Blueprint:
    """The endpoint, answering from ``engine``."""
    routes = Blueprint("optouts", __name__)

    @routes.post("/v1/optouts")
    def opt_out() -> tuple[Response, int]:
        receipt, is_new = engine.opt_out(received(OptOutRequest).document)
        return jsonify(receipt.to_json()), 201 if is_new else 200

    return routes
