"""All pages of the owner's portal, as the application takes them."""

from flask import Blueprint, Flask, Response

from serving import portal_log, portal_lookup, portal_requests, portal_review, portal_verify
from serving.pages import page, page_blueprint
from serving.portal import Portal
from serving.portal_forms import form_token


def register(app: Flask, portal: Portal) -> None:
    """Add the portal's pages to ``app``."""
    app.jinja_env.globals["form_token"] = form_token
    app.jinja_env.globals["has_review"] = portal.reviewer_token is not None
    app.register_blueprint(_home())
    for pages in (portal_lookup, portal_requests, portal_verify, portal_log):
        app.register_blueprint(pages.blueprint(portal))
    if portal.reviewer_token is not None:
        app.register_blueprint(portal_review.blueprint(portal, portal.reviewer_token))


def _home() -> Blueprint:
    routes = page_blueprint("home")

    @routes.get("/")
    def show() -> Response:
        return page("home.html")

    return routes
