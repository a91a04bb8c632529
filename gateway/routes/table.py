"""The map of what the gateway serves over HTTP: every route and its handler."""

from typing import Final

from gateway.routes.account import get_balance, get_usage
from gateway.routes.billing import (
    create_checkout,
    get_billing,
    get_invoice,
    list_invoices,
    set_auto_recharge,
)
from gateway.routes.chat import create_chat_completion
from gateway.routes.completions import create_completion
from gateway.routes.docs import llms, openapi, reference
from gateway.routes.embeddings import create_embeddings
from gateway.routes.episodes import get_episode, put_episode
from gateway.routes.health import livez, metrics, readyz
from gateway.routes.media import create_image, create_speech, create_transcription
from gateway.routes.messages import count_message_tokens, create_message
from gateway.routes.models import get_model, list_models
from gateway.routes.payments import manage_payment
from gateway.routes.quotes import create_quote
from gateway.routes.receipts import get_receipt
from gateway.routes.responses import create_response
from gateway.routes.route import explain_route
from gateway.routes.webhooks import take_stripe_webhook
from gateway.settings import GatewaySettings
from gateway.site import Handler, Routes

_BOUGHT: Final = (
    create_chat_completion,
    create_response,
    create_completion,
    create_embeddings,
    create_image,
    create_speech,
    create_transcription,
    create_message,
)
"""What can be paid for by the machine rail."""


def routes_of(settings: GatewaySettings) -> Routes:
    """Return every route; a path prefix selects a dialect."""
    routes: list[tuple[str, str, Handler]] = [
        ("GET", "/livez", livez),
        ("GET", "/readyz", readyz),
        ("GET", "/metrics", metrics),
        ("GET", "/openapi.json", openapi),
        ("GET", "/docs", reference),
        ("GET", "/llms.txt", llms),
        ("POST", "/webhooks/stripe", take_stripe_webhook),
    ]
    for prefix in settings.path_dialects:
        for end in ("", "/"):
            routes.append(("POST", f"{prefix}/chat/completions{end}", create_chat_completion))
            routes.append(("POST", f"{prefix}/responses{end}", create_response))
            routes.append(("POST", f"{prefix}/completions{end}", create_completion))
            routes.append(("POST", f"{prefix}/embeddings{end}", create_embeddings))
            routes.append(("POST", f"{prefix}/images/generations{end}", create_image))
            routes.append(("POST", f"{prefix}/audio/speech{end}", create_speech))
            routes.append(("POST", f"{prefix}/audio/transcriptions{end}", create_transcription))
            routes.append(("GET", f"{prefix}/models{end}", list_models))
            routes.append(("POST", f"{prefix}/route:explain{end}", explain_route))
            routes.append(("POST", f"{prefix}/quotes{end}", create_quote))
            routes.append(("POST", f"{prefix}/messages{end}", create_message))
            routes.append(("POST", f"{prefix}/messages/count_tokens{end}", count_message_tokens))
            routes.append(("GET", f"{prefix}/balance{end}", get_balance))
            routes.append(("GET", f"{prefix}/usage{end}", get_usage))
            routes.append(("GET", f"{prefix}/billing{end}", get_billing))
            routes.append(("POST", f"{prefix}/billing/checkout{end}", create_checkout))
            routes.append(("POST", f"{prefix}/billing/auto-recharge{end}", set_auto_recharge))
            routes.append(("GET", f"{prefix}/billing/invoices{end}", list_invoices))
        routes.append(("GET", f"{prefix}/models/*", get_model))
        routes.append(("GET", f"{prefix}/receipts/*", get_receipt))
        routes.append(("GET", f"{prefix}/episodes/*", get_episode))
        routes.append(("PUT", f"{prefix}/episodes/*", put_episode))
        routes.append(("GET", f"{prefix}/billing/invoices/*", get_invoice))
    if settings.machine_payments.is_enabled:
        bought = [path for method, path, handler in routes if handler in _BOUGHT]
        routes += [("GET", path, manage_payment) for path in bought]
    return Routes(routes)
