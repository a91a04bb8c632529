"""Our signatures are botocore's."""

import re
from collections.abc import Mapping

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as TheirCredentials
from botocore.utils import percent_encode
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.router.providers.aws.sign import Credentials, Scope, Unsigned, signed_headers

UNIX_S = 1_790_000_000
STAMP = "20260921T141320Z"
HOST = "bedrock-runtime.eu-west-1.amazonaws.com"
SEGMENT = st.text(max_size=12).map(lambda text: percent_encode(text, safe="-._~:@!$'()*,;="))
PATHS = st.lists(SEGMENT, max_size=5).map(lambda segments: "/" + "/".join(segments))
HEADERS = st.dictionaries(
    st.from_regex(r"x-[a-z0-9-]{1,12}", fullmatch=True).filter(
        lambda name: not name.startswith(("x-amz", "x-amzn"))
    ),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20),
    max_size=4,
)
TEXT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)


def theirs(
    request: Unsigned, secret: str, token: str, scope: Scope, auth: type[SigV4Auth] = SigV4Auth
) -> Mapping[str, str]:
    credentials = TheirCredentials("AKIDEXAMPLE", secret, token or None)
    signer = auth(credentials, scope.service, scope.region)
    asked = AWSRequest(
        request.method,
        f"https://{HOST}{request.path}",
        headers=dict(request.headers),
        data=request.body,
    )
    asked.context["timestamp"] = STAMP
    # What `add_auth` does, with our clock.
    signer._modify_request_before_signing(asked)
    canonical = signer.canonical_request(asked)
    signature = signer.signature(signer.string_to_sign(asked, canonical), asked)
    signer._inject_signature_to_request(asked, signature)
    return dict(asked.headers.items())


def ours(request: Unsigned, secret: str, token: str, scope: Scope) -> dict[str, str]:
    keys = Credentials(SecretStr("AKIDEXAMPLE"), SecretStr(secret), SecretStr(token))
    return signed_headers(request, keys, scope, unix_s=UNIX_S)


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@given(
    path=PATHS,
    headers=HEADERS,
    body=st.binary(max_size=50),
    secret=TEXT,
    token=st.just("") | TEXT,
    service=st.sampled_from(["bedrock", "sagemaker"]),
)
def test_signature_is_the_one_that_botocore_makes(
    path: str, headers: dict[str, str], body: bytes, secret: str, token: str, service: str
) -> None:
    request = Unsigned("POST", path, {"host": HOST, **headers}, body)
    scope = Scope("eu-west-1", service)

    made = ours(request, secret, token, scope)

    want = lowered(theirs(request, secret, token, scope))
    assert want["authorization"] == made["authorization"]
    assert STAMP == made["x-amz-date"]
    assert want.get("x-amz-security-token") == made.get("x-amz-security-token")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse-stream",
        "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Aprovisioned-model%2Fabc/converse",
        "/a//b/./c/../d/",
        "/a/..",
        "/a/.",
        "/endpoints/x?b=2&a=1&a=0&c",
    ],
)
def test_path_is_encoded_twice_in_the_signature(path: str) -> None:
    request = Unsigned("GET", path, {"host": HOST})
    scope = Scope("eu-west-1", "bedrock")

    assert (
        lowered(theirs(request, "s", "", scope))["authorization"]
        == ours(request, "s", "", scope)["authorization"]
    )


def test_path_of_s3_is_signed_as_it_is_sent() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    request = Unsigned("GET", "/b//a%3Ab", {"host": HOST, "x-amz-content-sha256": empty})
    scope = Scope("eu-west-1", "s3")

    assert (
        lowered(theirs(request, "s", "", scope, S3SigV4Auth))["authorization"]
        == ours(request, "s", "", scope)["authorization"]
    )


def test_secrets_are_hidden_in_every_text_form() -> None:
    keys = Credentials(SecretStr("AKIDCANARY"), SecretStr("canary"), SecretStr("canary"))

    assert not re.search("canary", repr(keys) + str(keys), re.IGNORECASE)
