"""What the API offers, as data: the source of `/openapi.json`, `/docs` and `/llms.txt`; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.account.asked import EpisodeBudget
from gateway.anthropic.schema import OWN_NAMES, CountRequest, MessagesRequest
from gateway.billing import AutoRechargeRequest, CheckoutRequest
from gateway.docs.answers import (
    ErrorAnswer,
    ModelList,
    ModelObject,
    Quote,
    Receipt,
    RouteExplanation,
)
from gateway.docs.answers_account import AccountBalance, EpisodeState, UsageList
from gateway.docs.answers_anthropic import AnthropicAnswer, AnthropicError, TokenCount
from gateway.docs.answers_billing import (
    BillingAnswer,
    CheckoutAnswer,
    InvoiceAnswer,
    InvoiceList,
)
from gateway.docs.answers_openai import (
    ChatCompletion,
    EmbeddingList,
    ImageList,
    TextCompletion,
    Transcription,
)
from gateway.docs.answers_responses import ResponseAnswer
from gateway.openai.completions import CompletionRequest
from gateway.openai.embeddings import EmbeddingsRequest
from gateway.openai.fields import KNOWN, SAMPLING
from gateway.openai.media import ImageRequest, SpeechRequest
from gateway.openai.quotes import QuoteRequest
from gateway.openai.schema import ChatRequest
from gateway.openai.transcription import TranscriptionRequest
from gateway.responses.request import CHAT_NAMES, STATEFUL
from gateway.responses.schema import ResponsesRequest

JSON: Final = "application/json"
FORM: Final = "multipart/form-data"
EVENTS: Final = "text/event-stream"
TEXT: Final = "text/plain"
CAPTIONS: Final = "text/vtt"
SOUND: Final = "audio/*"
TABLE: Final = "text/csv"


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint below a prefix such as `/v1`.

    `answer` is of its JSON form, `other_types` are the media types of the others. `more_fields` are
    fields of the request that its struct does not hold: they are what they are at chat completions.
    `file_field` is the field of a form that has the file.
    """

    method: str
    path: str
    name: str
    group: str
    summary: str
    request: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None
    other_types: tuple[str, ...] = ()
    more_fields: frozenset[str] = frozenset()
    request_type: str = JSON
    file_field: str = ""
    error: type[msgspec.Struct] = ErrorAnswer
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)


_EPISODE: Final = {"X-Episode-Id": "The episode that this belongs to: a UUID of version 7."}
_PAID: Final = {**_EPISODE, "X-Quote-Id": "A quote: no price above its own is charged."}
_ANTHROPIC: Final = {
    **_EPISODE,
    "anthropic-version": "Any is taken.",
    "anthropic-beta": "Names of betas, parted by commas.",
}

_USAGE: Final = {
    "group_by": "Of day, model and key, parted by commas: sums instead of single requests.",
    "start_time": "Not before this time or day, UTC.",
    "end_time": "Before this time or day, UTC.",
    "model": "Only this model.",
    "key_id": "Only this key; another one's needs the scope admin.",
    "episode_id": "Only this episode.",
    "limit": "Most entries of a page, 1 to 1000; 100 when it is absent.",
    "page": "`next_page` of the page before.",
}

OPERATIONS: Final = (
    Operation(
        "POST",
        "/chat/completions",
        "createChatCompletion",
        "Chat",
        "Answers a conversation, whole or as a stream of chunks.",
        ChatRequest,
        ChatCompletion,
        (EVENTS,),
        KNOWN,
        headers=_PAID,
    ),
    Operation(
        "POST",
        "/responses",
        "createResponse",
        "Chat",
        "Answers as OpenAI's Responses do, whole or as a stream of events; nothing is stored.",
        ResponsesRequest,
        ResponseAnswer,
        (EVENTS,),
        KNOWN - CHAT_NAMES.keys() - STATEFUL.keys(),
        headers=_PAID,
    ),
    Operation(
        "POST",
        "/messages",
        "createMessage",
        "Chat",
        "Answers as Anthropic's Messages do, whole or as a stream of events.",
        MessagesRequest,
        AnthropicAnswer,
        (EVENTS,),
        KNOWN - OWN_NAMES.keys(),
        error=AnthropicError,
        headers={**_ANTHROPIC, **_PAID},
    ),
    Operation(
        "POST",
        "/messages/count_tokens",
        "countMessageTokens",
        "Chat",
        "Estimates the input tokens of a message; it costs nothing.",
        CountRequest,
        TokenCount,
        more_fields=KNOWN - OWN_NAMES.keys(),
        error=AnthropicError,
        headers=_ANTHROPIC,
    ),
    Operation(
        "POST",
        "/route:explain",
        "explainRoute",
        "Chat",
        "Says which route a chat completion would take now, why, and at what price.",
        ChatRequest,
        RouteExplanation,
        more_fields=KNOWN,
        headers=_EPISODE,
    ),
    Operation(
        "POST",
        "/completions",
        "createCompletion",
        "Text and vectors",
        "Goes on with prompts, whole or as a stream of chunks.",
        CompletionRequest,
        TextCompletion,
        (EVENTS,),
        frozenset(SAMPLING),
        headers=_PAID,
    ),
    Operation(
        "POST",
        "/embeddings",
        "createEmbeddings",
        "Text and vectors",
        "Turns texts into vectors.",
        EmbeddingsRequest,
        EmbeddingList,
        headers=_PAID,
    ),
    Operation(
        "POST",
        "/images/generations",
        "createImage",
        "Images and sound",
        "Makes images for a prompt.",
        ImageRequest,
        ImageList,
        headers=_PAID,
    ),
    Operation(
        "POST",
        "/audio/speech",
        "createSpeech",
        "Images and sound",
        "Speaks a text; the sound comes as it is made.",
        SpeechRequest,
        other_types=(SOUND,),
        headers=_PAID,
    ),
    Operation(
        "POST",
        "/audio/transcriptions",
        "createTranscription",
        "Images and sound",
        "Writes down what a recording says, as JSON, text or captions.",
        TranscriptionRequest,
        Transcription,
        (TEXT, CAPTIONS),
        request_type=FORM,
        file_field="file",
        headers=_PAID,
    ),
    Operation(
        "GET",
        "/models",
        "listModels",
        "Models",
        "Lists the models that the key may use, with prices and supported parameters.",
        answer=ModelList,
    ),
    Operation(
        "GET",
        "/models/{model}",
        "getModel",
        "Models",
        "Returns one model, by any of its names.",
        answer=ModelObject,
    ),
    Operation(
        "POST",
        "/quotes",
        "createQuote",
        "Money",
        "Promises a model's prices for a while; also takes a chat completion's body as it is.",
        QuoteRequest,
        Quote,
    ),
    Operation(
        "GET",
        "/receipts/{request_id}",
        "getReceipt",
        "Money",
        "Returns the receipt of one request of the account, with what proves it; or as CSV.",
        answer=Receipt,
        other_types=(TABLE,),
    ),
    Operation(
        "GET",
        "/balance",
        "getBalance",
        "Account",
        "Returns what the account has and its caps.",
        answer=AccountBalance,
    ),
    Operation(
        "GET",
        "/usage",
        "listUsage",
        "Account",
        "Lists what requests used and cost, or sums of it.",
        answer=UsageList,
        query=_USAGE,
    ),
    Operation(
        "GET",
        "/episodes/{episode}",
        "getEpisode",
        "Account",
        "Returns what an episode may spend and has spent.",
        answer=EpisodeState,
    ),
    Operation(
        "PUT",
        "/episodes/{episode}",
        "setEpisodeBudget",
        "Account",
        "Sets what an episode may spend; only a key with the scope admin can raise it.",
        EpisodeBudget,
        EpisodeState,
    ),
    Operation(
        "GET",
        "/billing",
        "getBilling",
        "Money",
        "Says how the account pays and where it stands.",
        answer=BillingAnswer,
    ),
    Operation(
        "POST",
        "/billing/checkout",
        "createCheckout",
        "Money",
        "Opens a page on which a top-up is paid by card; the key needs the scope billing.",
        CheckoutRequest,
        CheckoutAnswer,
        headers={"Idempotency-Key": "A repeat with the same one gets the same page."},
    ),
    Operation(
        "POST",
        "/billing/auto-recharge",
        "setAutoRecharge",
        "Money",
        "Sets or ends the recharge from the saved card; the key needs the scope billing.",
        AutoRechargeRequest,
        BillingAnswer,
    ),
    Operation(
        "GET",
        "/billing/invoices",
        "listInvoices",
        "Money",
        "Lists the months in which the account had postings, newest first.",
        answer=InvoiceList,
    ),
    Operation(
        "GET",
        "/billing/invoices/{invoice}",
        "getInvoice",
        "Money",
        "Returns one month, such as 2026-11, as JSON or as CSV.",
        answer=InvoiceAnswer,
        other_types=(TABLE,),
    ),
)
