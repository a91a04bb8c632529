"""Small rooms in memory, for tests of what stands in front of them."""

from types import MappingProxyType
from typing import Final

from kit.errors import Reason, TurnpikeError
from kit.rpc.local import HandlerTable, LocalChannel
from turnpike.auth.v1 import auth_pb2, auth_pb2_grpc
from turnpike.metering.v1 import metering_pb2, metering_pb2_grpc
from turnpike.payment.v1 import payment_pb2, payment_pb2_grpc, receipts_pb2, receipts_pb2_grpc
from turnpike.router.v1 import route_pb2, router_pb2, router_pb2_grpc
from turnpike.type.v1 import principal_pb2, usage_pb2

SECRET: Final = "sk-tp-shown-once"


class FakeAuth(auth_pb2_grpc.AuthServiceServicer):
    """Accounts and keys in lists."""

    def __init__(self) -> None:
        self.accounts: list[auth_pb2.Account] = []
        self.keys: list[auth_pb2.Key] = []
        self.requests: list[auth_pb2.CreateKeyRequest] = []
        self.rotations: list[auth_pb2.RotateKeyRequest] = []

    async def CreateAccount(
        self, request: auth_pb2.CreateAccountRequest, context: object
    ) -> auth_pb2.CreateAccountResponse:
        account = auth_pb2.Account(account_id=f"account-{len(self.accounts)}", name=request.name)
        self.accounts.append(account)
        return auth_pb2.CreateAccountResponse(account=account)

    async def GetAccount(
        self, request: auth_pb2.GetAccountRequest, context: object
    ) -> auth_pb2.GetAccountResponse:
        for account in self.accounts:
            if account.account_id == request.account_id:
                return auth_pb2.GetAccountResponse(account=account)
        raise TurnpikeError(Reason.NOT_FOUND, "There is no such account.", param="account_id")

    async def ListAccounts(
        self, request: auth_pb2.ListAccountsRequest, context: object
    ) -> auth_pb2.ListAccountsResponse:
        start = int(request.page_token or 0)
        end = start + (request.page_size or 100)
        rest = str(end) if end < len(self.accounts) else ""
        return auth_pb2.ListAccountsResponse(
            accounts=self.accounts[start:end], next_page_token=rest
        )

    async def CreateKey(
        self, request: auth_pb2.CreateKeyRequest, context: object
    ) -> auth_pb2.CreateKeyResponse:
        self.requests.append(request)
        principal = principal_pb2.Principal(
            account_id=request.account_id,
            key_id=f"key-{len(self.keys)}",
            models=request.models,
            tier=request.tier or "default",
        )
        key = auth_pb2.Key(principal=principal, name=request.name, state=auth_pb2.Key.STATE_ACTIVE)
        self.keys.append(key)
        return auth_pb2.CreateKeyResponse(key=key, secret=SECRET)

    async def ListKeys(
        self, request: auth_pb2.ListKeysRequest, context: object
    ) -> auth_pb2.ListKeysResponse:
        wanted = request.account_id
        found = [key for key in self.keys if wanted in {"", key.principal.account_id}]
        return auth_pb2.ListKeysResponse(keys=found)

    async def RevokeKey(
        self, request: auth_pb2.RevokeKeyRequest, context: object
    ) -> auth_pb2.RevokeKeyResponse:
        for key in self.keys:
            if key.principal.key_id == request.key_id:
                key.state = auth_pb2.Key.STATE_REVOKED
                return auth_pb2.RevokeKeyResponse(key=key)
        raise TurnpikeError(Reason.NOT_FOUND, f"There is no key {request.key_id}.")

    async def RotateKey(
        self, request: auth_pb2.RotateKeyRequest, context: object
    ) -> auth_pb2.RotateKeyResponse:
        self.rotations.append(request)
        return auth_pb2.RotateKeyResponse(key=self.keys[0], secret=SECRET)

    async def VerifyKey(
        self, request: auth_pb2.VerifyKeyRequest, context: object
    ) -> auth_pb2.VerifyKeyResponse:
        raise RuntimeError("a bug that holds " + SECRET)

    async def LeaseRate(
        self, request: auth_pb2.LeaseRateRequest, context: object
    ) -> auth_pb2.LeaseRateResponse:
        return auth_pb2.LeaseRateResponse(is_granted=True)

    async def LeaseSlots(
        self, request: auth_pb2.LeaseSlotsRequest, context: object
    ) -> auth_pb2.LeaseSlotsResponse:
        held = request.kept_slot_count + request.needed_slot_count
        return auth_pb2.LeaseSlotsResponse(slot_count=held)

    async def RenewHolder(
        self, request: auth_pb2.RenewHolderRequest, context: object
    ) -> auth_pb2.RenewHolderResponse:
        return auth_pb2.RenewHolderResponse()


class FakePayment(payment_pb2_grpc.PaymentServiceServicer):
    """Balances in a dictionary; a repeated credit counts once."""

    def __init__(self) -> None:
        self.available: dict[str, int] = {}
        self.findings: list[payment_pb2.Finding] = []
        self._seen: set[str] = set()

    async def LeaseCredit(
        self, request: payment_pb2.LeaseCreditRequest, context: object
    ) -> payment_pb2.LeaseCreditResponse:
        return payment_pb2.LeaseCreditResponse(granted_nusd=request.need_nusd)

    async def ReturnCredit(
        self, request: payment_pb2.ReturnCreditRequest, context: object
    ) -> payment_pb2.ReturnCreditResponse:
        return payment_pb2.ReturnCreditResponse()

    async def CreditAccount(
        self, request: payment_pb2.CreditAccountRequest, context: object
    ) -> payment_pb2.CreditAccountResponse:
        if request.request_id not in self._seen:
            self._seen.add(request.request_id)
            before = self.available.get(request.account_id, 0)
            self.available[request.account_id] = before + request.amount_nusd
        return payment_pb2.CreditAccountResponse(balance=self._balance(request.account_id))

    async def GetBalance(
        self, request: payment_pb2.GetBalanceRequest, context: object
    ) -> payment_pb2.GetBalanceResponse:
        return payment_pb2.GetBalanceResponse(balance=self._balance(request.account_id))

    async def ListBalances(
        self, request: payment_pb2.ListBalancesRequest, context: object
    ) -> payment_pb2.ListBalancesResponse:
        rows = [
            payment_pb2.LedgerBalance(ledger_account=f"customer:{i}:available", balance_nusd=n)
            for i, n in self.available.items()
        ]
        return payment_pb2.ListBalancesResponse(balances=rows)

    async def VerifyLedger(
        self, request: payment_pb2.VerifyLedgerRequest, context: object
    ) -> payment_pb2.VerifyLedgerResponse:
        return payment_pb2.VerifyLedgerResponse(
            is_clean=not self.findings, findings=self.findings, transaction_count=3
        )

    async def RebuildLedger(
        self, request: payment_pb2.RebuildLedgerRequest, context: object
    ) -> payment_pb2.RebuildLedgerResponse:
        return payment_pb2.RebuildLedgerResponse(corrected_count=1, ledger_account_count=4)

    def _balance(self, account_id: str) -> payment_pb2.Balance:
        amount = self.available.get(account_id, 0)
        return payment_pb2.Balance(account_id=account_id, available_nusd=amount)


class FakeReceipts(receipts_pb2_grpc.ReceiptServiceServicer):
    """Roots that fit but for the findings that a test puts there, in two pages."""

    def __init__(self) -> None:
        self.findings: list[receipts_pb2.RootFinding] = []

    async def VerifyRoots(
        self, request: receipts_pb2.VerifyRootsRequest, context: object
    ) -> receipts_pb2.VerifyRootsResponse:
        findings, self.findings = self.findings, []
        return receipts_pb2.VerifyRootsResponse(
            findings=findings,
            root_count=len(request.lines) or 2,
            transaction_count=3,
            receipt_count=1,
            page_token=f"{request.page_token}+",
            has_more=not request.lines and not request.page_token,
        )

    async def GetReceipt(
        self, request: receipts_pb2.GetReceiptRequest, context: object
    ) -> receipts_pb2.GetReceiptResponse:
        return receipts_pb2.GetReceiptResponse()

    async def ListReceipts(
        self, request: receipts_pb2.ListReceiptsRequest, context: object
    ) -> receipts_pb2.ListReceiptsResponse:
        return receipts_pb2.ListReceiptsResponse()

    async def ListRoots(
        self, request: receipts_pb2.ListRootsRequest, context: object
    ) -> receipts_pb2.ListRootsResponse:
        return receipts_pb2.ListRootsResponse()

    async def GetPublicKey(
        self, request: receipts_pb2.GetPublicKeyRequest, context: object
    ) -> receipts_pb2.GetPublicKeyResponse:
        return receipts_pb2.GetPublicKeyResponse()

    async def SignQuote(
        self, request: receipts_pb2.SignQuoteRequest, context: object
    ) -> receipts_pb2.SignQuoteResponse:
        return receipts_pb2.SignQuoteResponse()

    async def ReadQuote(
        self, request: receipts_pb2.ReadQuoteRequest, context: object
    ) -> receipts_pb2.ReadQuoteResponse:
        return receipts_pb2.ReadQuoteResponse()


class FakeMetering(metering_pb2_grpc.MeteringServiceServicer):
    """One record, and what was asked for."""

    def __init__(self) -> None:
        self.filters: list[metering_pb2.ListUsageRequest] = []
        self.decisions: list[metering_pb2.RouteDecision] = []
        self.snapshots: dict[str, bytes] = {}
        usage = usage_pb2.TokenUsage(prompt_token_count=12, completion_token_count=34)
        self.records = [
            metering_pb2.UsageRecord(
                request_id="request-1", model_id="tiny-chat", usage=usage, charge_nusd=14_800
            )
        ]

    async def ListUsage(
        self, request: metering_pb2.ListUsageRequest, context: object
    ) -> metering_pb2.ListUsageResponse:
        self.filters.append(request)
        return metering_pb2.ListUsageResponse(records=self.records)

    async def SummarizeUsage(
        self, request: metering_pb2.SummarizeUsageRequest, context: object
    ) -> metering_pb2.SummarizeUsageResponse:
        row = metering_pb2.UsageSummary(model_id="tiny-chat", request_count=7, charge_nusd=5)
        return metering_pb2.SummarizeUsageResponse(summaries=[row])

    async def ListCharges(
        self, request: metering_pb2.ListChargesRequest, context: object
    ) -> metering_pb2.ListChargesResponse:
        return metering_pb2.ListChargesResponse()

    async def ListRouteDecisions(
        self, request: metering_pb2.ListRouteDecisionsRequest, context: object
    ) -> metering_pb2.ListRouteDecisionsResponse:
        asked = request.request_id
        found = [each for each in self.decisions if asked in ("", each.request_id)]
        return metering_pb2.ListRouteDecisionsResponse(decisions=found)

    async def GetRouteSnapshot(
        self, request: metering_pb2.GetRouteSnapshotRequest, context: object
    ) -> metering_pb2.GetRouteSnapshotResponse:
        if request.snapshot_id not in self.snapshots:
            raise TurnpikeError(Reason.NOT_FOUND, "There is no such snapshot.")
        return metering_pb2.GetRouteSnapshotResponse(data=self.snapshots[request.snapshot_id])


class FakeRouter(router_pb2_grpc.RouterServiceServicer):
    """A catalogue of names."""

    def __init__(self) -> None:
        self.names = ["another", "tiny-chat"]
        self.asked: list[router_pb2.ExplainRouteRequest] = []

    async def ListModels(
        self, request: router_pb2.ListModelsRequest, context: object
    ) -> router_pb2.ListModelsResponse:
        low = usage_pb2.Price(input_pusd_per_token=100_000, output_pusd_per_token=400_000)
        high = usage_pb2.Price(input_pusd_per_token=150_000, output_pusd_per_token=400_000)
        models = [
            router_pb2.Model(model_id=name, floor_price=low, ceiling_price=high)
            for name in self.names
        ]
        return router_pb2.ListModelsResponse(models=models)

    def Run(self, request: object, context: object) -> object:  # type: ignore[override]
        raise TurnpikeError(Reason.UNAVAILABLE, "This router only lists.")

    async def EndRun(self, request: object, context: object) -> router_pb2.EndRunResponse:
        raise TurnpikeError(Reason.UNAVAILABLE, "This router only lists.")

    async def ExplainRoute(
        self, request: router_pb2.ExplainRouteRequest, context: object
    ) -> router_pb2.ExplainRouteResponse:
        self.asked.append(request)
        return router_pb2.ExplainRouteResponse(
            decision=route_pb2.Decision(first="one", seed=7, version=1),
            candidates=[
                route_pb2.RankedCandidate(
                    deployment="one", score=5, is_in_band=True, estimated_nusd=5, worst_case_nusd=9
                ),
                route_pb2.RankedCandidate(deployment="two", excluded_reason="health", rest_s=3.0),
            ],
        )


class FakeRooms:
    """All four, reached by local channels; `channels` by service name.

    `receipts` is what serves receipts, a fake of its own by default.
    """

    def __init__(self, receipts: receipts_pb2_grpc.ReceiptServiceServicer | None = None) -> None:
        self.auth = FakeAuth()
        self.payment = FakePayment()
        self.receipts = receipts or FakeReceipts()
        self.metering = FakeMetering()
        self.router = FakeRouter()
        table = HandlerTable()
        auth_pb2_grpc.add_AuthServiceServicer_to_server(self.auth, table)  # type: ignore[arg-type]
        payment_pb2_grpc.add_PaymentServiceServicer_to_server(self.payment, table)  # type: ignore[arg-type]
        receipts_pb2_grpc.add_ReceiptServiceServicer_to_server(self.receipts, table)  # type: ignore[arg-type]
        metering_pb2_grpc.add_MeteringServiceServicer_to_server(self.metering, table)  # type: ignore[arg-type]
        router_pb2_grpc.add_RouterServiceServicer_to_server(self.router, table)  # type: ignore[arg-type]
        self.channel = LocalChannel(table)
        names = [f"turnpike.{n}.v1.{n.title()}Service" for n in ("auth", "metering", "payment")]
        names += ["turnpike.router.v1.RouterService", "turnpike.payment.v1.ReceiptService"]
        self.channels = MappingProxyType(dict.fromkeys(names, self.channel))
