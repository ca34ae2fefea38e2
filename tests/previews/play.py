"""An example is played over HTTP: each thing is previewed, then done, and both are compared.

Nothing of ours computes what is expected: a preview's answer is the promise, the invoice that then
exists is the reality. The only rules known here are those that the API's own texts tell (when a
change is settled at once, what waits).
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from tests.previews.asking import LIVE, Asked, Asking, Deed, Person, Promise, moment, read
from tests.previews.drawn import Data, Example, Order, Round
from tests.recomputed import content_hash, recomputed
from tests.stories.fingerprint import fingerprint
from tests.stories.shop import Shop

LINE = (
    "kind", "description", "price_id", "service_start_at", "service_end_at", "quantity",
    "gross_minor", "discount_minor", "net_minor", "tax_minor",
)  # fmt: skip
WAITING = ("kind", "price_id", "service_start_at", "service_end_at", "gross_minor")
FIGURES = ("gross_minor", "net_minor", "tax_minor", "tax_included_minor")
RENEWED = {"renewal", "subscription_start", "subscription_create"}


def lines(document: Data, names: tuple[str, ...] = LINE) -> list[Data]:
    return [{name: line[name] for name in names} for line in document["lines"]]


def same(promised: Data, made: Data) -> None:
    """An invoice is the one that was promised, line by line."""
    assert lines(promised) == lines(made)
    total = promised["total_minor"]
    assert (max(total, 0), max(-total, 0)) == (made["total_minor"], made["credited_minor"])
    for name in ("subtotal_minor", "discount_minor", "tax_minor"):
        assert promised.get(name, made[name]) == made[name], name


class Play(Asking):
    """One example in a shop of its own."""

    def __init__(self, shop: Shop, admin: Any, example: Example, compared: Counter[str]) -> None:
        super().__init__(shop, example)
        self.admin = admin
        """A plain connection, for looking at the tables alone."""
        self.compared = compared
        """What was compared how often; ``refused …`` where preview and deed refuse alike."""
        self.told: list[str] = []
        """What was done, for whoever reads a failure."""

    # --- asking ----------------------------------------------------------------------------------

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A request that is answered at once, before anything else is done."""
        sent = self.shop.api.request(method, path, json=body, headers={"prefer": "wait=0"})
        answer = await self.shop.pump.during(sent, reads=True)
        assert answer.status_code < 500, f"{path}: {answer.text}"
        return answer.status_code, answer.json()

    async def do(self, method: str, path: str, body: Data) -> tuple[int, Any]:
        """A request that does something; what follows from it happens when the shop is quiet."""
        status, said = await self.call(method, path, body)
        self.told.append(f"{method} {path} {body} -> {status} {said.get('code', '')}")
        return status, said

    async def look(self, person: Person) -> None:
        """How the subscription stands, and what its next invoice is to be."""
        assert person.subscription is not None
        path = f"/v1/subscriptions/{person.subscription['id']}"
        person.subscription = await self.shop.get(path)
        person.upcoming = None
        if person.is_live:
            person.upcoming = await self.shop.get(f"{path}/upcoming-invoice")

    async def new_invoices(self, person: Person) -> list[Data]:
        """Those that were not there at the last look, oldest first, with their lines."""
        page = await self.shop.get("/v1/invoices", customer_id=person.id, limit=100)
        assert not page["has_more"]
        fresh = [row for row in reversed(page["data"]) if row["id"] not in person.known]
        found = [await self.shop.get(f"/v1/invoices/{row['id']}") for row in fresh]
        person.known |= {row["id"]: row for row in page["data"]}
        return found

    # --- the shop --------------------------------------------------------------------------------

    async def open(self) -> None:
        example, shop = self.example, self.shop
        if example.taxes is not None:
            settings = {"country": "DE", "rounding": example.rounding}
            assert (await self.do("PUT", "/v1/tax-settings", settings))[0] == 200
            for n, percent in enumerate(example.taxes):
                rate = {"code": f"t{n}", "name": f"T{n}", "percent": percent, "country": "DE",
                        "levy": f"levy{n}", "compound": n > 0}  # fmt: skip
                await shop.post("/v1/tax-rules", {"rate": rate})
        product = await shop.post("/v1/products", {"code": "p", "name": "P", "resources": ["a"]})
        for n, prices in enumerate(example.plans):
            body = {"code": f"plan{n}", "name": f"Plan {n}", "product_id": product["id"],
                    "prices": list(prices)}  # fmt: skip
            self.plans.append(await shop.post("/v1/plans", body))
        for n, discount in enumerate(example.discounts):
            made = await shop.post("/v1/discounts", {"code": f"d{n}", "name": f"D{n}", **discount})
            self.discounts.append(made["id"])
        for n, zone in enumerate(example.zones):
            body = {"external_id": f"c{n}", "name": f"C{n}", "email": f"c{n}@example.com",
                    "currency": "EUR", "timezone": zone, "country": "DE"}  # fmt: skip
            made = await shop.post("/v1/customers", body)
            self.people.append(Person(made["id"]))
        await shop.pump.woken()
        for person in self.people:
            await self.card(person, "visa_ok")
        await shop.pump.woken()

    async def card(self, person: Person, kind: str) -> None:
        body = {"customer_id": person.id, "test_kind": kind, "make_default": True}
        await self.shop.post("/v1/payment-methods", body)

    async def play(self) -> None:
        await self.open()
        bought = [Order("buy", each) for each in self.example.purchases]
        await self.round(Round(tuple(bought), None, 0))
        for person, given in zip(self.people, self.example.purchases, strict=True):
            if given["declines"]:
                await self.card(person, "soft_decline")
        await self.shop.pump.woken()
        for each in self.example.rounds:
            await self.round(each)
        await self.pass_time(24 * 31)
        for person in self.people:
            await self.new_invoices(person)
            for invoice in person.known.values():
                await self.recompute(invoice)
        await self.shop.check()

    async def recompute(self, invoice: Data) -> None:
        """What is stored of an invoice computes to the same figures and the same hash."""
        told = await self.shop.get(f"/v1/invoices/{invoice['id']}/explain")
        stored = told["inputs"] | {"lines": [line["derivation"] for line in told["lines"]]}
        again = recomputed(stored)
        assert content_hash(again) == told["content_hash"], told
        for line, derived in zip(told["lines"], again["lines"], strict=True):
            for name in FIGURES:
                assert line[name] == derived[name], name
        total = sum(line["net_minor"] + line["tax_minor"] for line in again["lines"])
        assert total == told["total_minor"] - told["credited_minor"]
        self.compared[f"recomputed: {invoice['reason']}"] += 1

    # --- rounds ----------------------------------------------------------------------------------

    async def round(self, drawn: Round) -> None:
        """Everything is previewed first, and nothing changes by it; then everything is done, and
        then it is seen what came of it."""
        deeds = [self.fitting(*pair) for pair in zip(self.people, drawn.orders, strict=True)]
        asked = [await self.asked(each.person, each.order) for each in deeds]
        before = await self.traces()
        promises = [await self.promised(each) for each in asked]
        if drawn.migration is not None:
            await self.preview_plan(drawn.migration, saved=False)
        assert await self.traces() == before, "a preview left a trace"
        answers = [
            None if each is None else await self.do(each.method, each.path, each.body)
            for each in asked
        ]
        await self.shop.pump.woken()
        for deed, each, promise, answer in zip(deeds, asked, promises, answers, strict=True):
            if each is not None and answer is not None:
                await self.done(deed, each, promise, *answer)
        if drawn.migration is not None:
            await self.migrate(drawn.migration)
        if drawn.hours:
            await self.pass_time(drawn.hours)

    def fitting(self, person: Person, order: Order) -> Deed:
        """The order, or one that makes more sense of a subscription that is paused or ended."""
        stands = person.subscription
        if stands is None or (not person.is_live and order.do not in {"note", "reactivate"}):
            return Deed(person, Order("buy", self.wanted(person)))
        if stands["status"] == "paused" and order.do in {"pause", "reanchor", "use"}:
            return Deed(person, Order("resume", {"at": "now"}))
        return Deed(person, order)

    def wanted(self, person: Person) -> Data:
        """What the customer wants to buy; once that was refused, without what is special of it."""
        wanted = self.example.purchases[self.people.index(person)]
        return wanted | {"billing_anchor": None, "start_days": None} if person.refused else wanted

    async def traces(self) -> dict[str, str]:
        """A digest of every table's rows of this tenant, the events among them."""
        return await fingerprint(self.admin, self.shop.tenant_id)

    async def promised(self, asked: Asked | None) -> Promise | None:
        if asked is None or asked.preview is None:
            return None
        status, said = await self.call("POST", asked.preview, asked.preview_body or asked.body)
        if status == 200:
            return Promise(said, None)
        return Promise(None, said["code"])

    async def done(
        self, deed: Deed, asked: Asked, promise: Promise | None, status: int, said: Data
    ) -> None:
        person, name = deed.person, deed.order.do
        made = await self.new_invoices(person)
        code = said["code"] if status >= 400 else None
        if code == "payment_declined" and promise is not None and promise.code is None:
            # What the bank will say no preview knows; what was bought waits for its payment.
            said, code = await self.shop.get(f"/v1/subscriptions/{said['subscription_id']}"), None
        if promise is not None:
            assert promise.code == code, f"promised {promise.code}, was {code}: {said}"
        if code is not None:
            assert not made, "what was refused made an invoice"
            self.compared[f"refused {name}: {code}"] += 1
            person.refused = person.refused or name == "buy"
            return
        if name == "buy":
            person.subscription = said
        await self.look(person)
        if promise is not None and promise.said is not None:
            compare = getattr(self, f"_{name}_came", self._settled_came)
            compare(promise.said, said, made, person, asked)
            self.compared[name] += 1
        elif name == "reissue":
            self._reissue_came(said, made)

    # --- what came -------------------------------------------------------------------------------

    def _buy_came(
        self, promised: Data, said: Data, made: list[Data], person: Person, _: Asked
    ) -> None:
        stands = person.subscription
        assert stands is not None
        for name in ("plan_id", "plan_version_id", "started_at", "trial_end_at", "timezone"):
            assert promised[name] == stands[name], name
        if promised["status"] in {"incomplete", "active"}:
            assert len(made) == bool(promised["lines"]), "an invoice has a line"
            for invoice in made:
                same(promised, invoice)
                assert promised["due_now_minor"] == invoice["total_minor"]
            assert promised["period_end_at"] == stands["current_period_end_at"]
            return
        assert not made
        assert (promised["status"], promised["due_now_minor"]) == (stands["status"], 0)
        assert person.upcoming is not None
        assert lines(promised) == lines(person.upcoming)
        assert promised["total_minor"] == person.upcoming["total_minor"]

    def _change_came(
        self, promised: Data, said: Data, made: list[Data], person: Person, asked: Asked
    ) -> None:
        body, stands = asked.preview_body or asked.body, person.subscription
        assert stands is not None
        if promised["is_scheduled"]:
            assert not made
            assert stands["scheduled_change"]["effective_at"] == promised["effective_at"]
            assert stands["scheduled_change"]["plan_id"] == promised["plan_id"]
            assert stands["scheduled_change"]["quantity"] == promised["quantity"]
            return
        for name in ("plan_id", "quantity", "current_period_end_at"):
            assert promised[name] == stands[name], name
        at_once = bool(promised["lines"]) and (
            promised["restarts_period"]
            or body["settle"] == "now"
            or (body["settle"] == "auto" and promised["total_minor"] > 0)
        )
        if at_once:
            [invoice] = made
            same(promised, invoice)
            return
        assert not made
        self.waits_for_the_next(promised, person)

    _reanchor_came = _change_came

    def waits_for_the_next(self, promised: Data, person: Person) -> None:
        """What a change leaves to the next invoice is on it."""
        if person.upcoming is None or not person.upcoming["lines"]:
            return
        coming = lines(person.upcoming, WAITING)
        for each in lines(promised, WAITING):
            assert each in coming, f"{each} is not on the next invoice: {coming}"

    def _settled_came(
        self, promised: Data, said: Data, made: list[Data], person: Person, _: Asked
    ) -> None:
        """A pause or a resumption: what it bills is invoiced when it happens."""
        stands = person.subscription
        assert stands is not None
        if promised["period_is_over"]:
            assert promised["current_period_end_at"] <= promised["effective_at"]
            ends = stands["status"] == "canceled"
            assert ends or stands["current_period_end_at"] > promised["effective_at"]
            return
        assert promised["current_period_end_at"] == stands["current_period_end_at"]
        if promised["is_scheduled"]:
            assert not made
            assert not promised["lines"]
            paused = stands["pause"]
            assert promised["effective_at"] in (paused["from_at"], paused["resume_at"])
            return
        assert len(made) == bool(promised["lines"])
        for invoice in made:
            same(promised, invoice)

    def _note_came(
        self, promised: Data, said: Data, made: list[Data], person: Person, _: Asked
    ) -> None:
        assert not made
        for name in ("gross_minor", "discount_minor", "net_minor", "tax_minor", "total_minor",
                     "offset_minor", "credit_minor", "refund_minor", "currency"):  # fmt: skip
            assert promised[name] == said[name], name
        of_line = ("n", "gross_minor", "discount_minor", "net_minor", "tax_minor", "total_minor")
        assert lines(promised, of_line) == lines(said, of_line)

    def _reissue_came(self, said: Data, made: list[Data]) -> None:
        """There is no preview of it; the new invoice names the old one."""
        assert [each["id"] for each in made] == [said["id"]]
        assert said["replaces_invoice_id"] is not None

    # --- plans -----------------------------------------------------------------------------------

    async def preview_plan(self, drawn: Data, *, saved: bool) -> Data:
        plan = self.plans[drawn["plan"] % len(self.plans)]["id"]
        body = {"at": drawn["at"], "settle": drawn["settle"]}
        if not saved:
            body["prices"] = list(drawn["prices"])
        status, said = await self.call("POST", f"/v1/plans/{plan}/preview-change?limit=100", body)
        assert status == 200, said
        assert not said["has_more"]
        found: Data = said
        return found

    async def migrate(self, drawn: Data) -> None:
        """A plan's subscriptions go to a new version as the preview of the plan said."""
        plan = self.plans[drawn["plan"] % len(self.plans)]["id"]
        thought = await self.preview_plan(drawn, saved=False)
        await self.shop.post(f"/v1/plans/{plan}/versions", {"prices": list(drawn["prices"])})
        promised = await self.preview_plan(drawn, saved=True)
        assert thought["data"] == promised["data"], "prices thought of are prices saved"
        assert thought["totals"] == promised["totals"]
        status, made = await self.do(
            "POST", "/v1/plan-migrations",
            {"plan_id": plan, "at": drawn["at"], "settle": drawn["settle"]},
        )  # fmt: skip
        assert status == 201, made
        await self.shop.pump.quiet()
        page = await self.shop.get(f"/v1/plan-migrations/{made['id']}/results", limit=100)
        came = {row["subscription_id"]: row for row in page["data"]}
        by_subscription = {
            person.subscription["id"]: person for person in self.people if person.subscription
        }
        for row in promised["data"]:
            person = by_subscription.get(row["subscription_id"])
            await self._migrated(row, came[row["subscription_id"]], person)

    async def _migrated(self, row: Data, became: Data, person: Person | None) -> None:
        if row["reason"] is not None:
            assert became["outcome"] in {"skipped", "failed"}, (row, became)
            assert became["reason"]["code"] == row["reason"]["code"]
            self.compared["refused migration"] += 1
            return
        assert became["outcome"] in {"changed", "scheduled"}, (row, became)
        for name in ("effective_at", "before_minor", "after_minor", "immediate_minor"):
            assert became[name] == row[name], name
        self.compared["migration"] += 1
        if person is None:
            return
        made = await self.new_invoices(person)
        await self.look(person)
        assert len(made) == row["is_invoiced_at_once"]
        for invoice in made:
            assert invoice["total_minor"] - invoice["credited_minor"] == row["immediate_minor"]

    # --- time ------------------------------------------------------------------------------------

    async def pass_time(self, hours: int) -> None:
        """The next invoice that the clock brings is the one that was upcoming."""
        self.now += timedelta(hours=hours)
        self.told.append(f"it is {moment(self.now)}")
        await self.shop.move_to(moment(self.now).removesuffix("Z"))
        for person in self.people:
            if person.subscription is None:
                continue
            stood, upcoming = person.subscription, person.upcoming
            made = await self.new_invoices(person)
            await self.look(person)
            if stood["status"] in LIVE:
                assert upcoming is not None
                self._next_came(stood, upcoming, made, person)

    def _next_came(self, stood: Data, upcoming: Data, made: list[Data], person: Person) -> None:
        due_at = read(stood["current_period_end_at"])
        if self._disturbed(stood, person, due_at):
            return
        renewals = [each for each in made if each["reason"] in RENEWED]
        if due_at > self.now:
            assert not renewals, "a renewal before its time"
            return
        if stood["cancel_at"] is not None and read(stood["cancel_at"]) <= due_at:
            ends = [each for each in made if each["reason"] == "subscription_end"]
            assert not renewals
            assert len(ends) == bool(upcoming["lines"])
            for invoice in ends:
                same(upcoming, invoice)
            self.compared["last invoice"] += 1
            return
        if not upcoming["lines"]:
            # No invoice of that period; there may be one of a later period.
            starts = [line["service_start_at"] for each in renewals for line in each["lines"]]
            assert all(read(each) >= due_at for each in starts)
            return
        assert renewals, f"no renewal of {stood['id']}"
        same(upcoming, renewals[0])
        self.compared["upcoming"] += 1

    def _disturbed(self, stood: Data, person: Person, due_at: datetime) -> bool:
        """Something else comes first: then the upcoming invoice promised nothing."""
        now_stands = person.subscription
        assert now_stands is not None
        ended_at = now_stands["ended_at"]
        waiting = [
            stood["scheduled_change"] and stood["scheduled_change"]["effective_at"],
            stood["pause"] and stood["pause"]["from_at"],
            stood["cancel_at"] if stood["cancel_at"] != stood["current_period_end_at"] else None,
            ended_at if stood["cancel_at"] is None else None,
        ]
        return (
            stood["status"] == "paused"
            or stood["parked_reason"] is not None
            or now_stands["parked_reason"] is not None
            or any(each is not None and read(each) <= due_at for each in waiting)
        )
