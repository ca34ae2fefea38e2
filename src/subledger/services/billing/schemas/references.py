"""The ids in billing's requests and answers: TypeID text outside, UUID inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from subledger.platform.http.fields import IdOf

if TYPE_CHECKING:  # a type checker wants the name of a type where pydantic wants its fields
    from uuid import UUID

    CustomerId = UUID
    ProductId = UUID
    PlanId = UUID
    PlanVersionId = UUID
    PriceId = UUID
    DiscountId = UUID
    SubscriptionId = UUID
    InvoiceId = UUID
    PaymentMethodId = UUID
    WorkItemId = UUID
    TaxRateId = UUID
    TaxRuleId = UUID
    PlanMigrationId = UUID
    PromotionCodeId = UUID
    BatchId = UUID
    CreditNoteId = UUID
    AdjustmentId = UUID
    ParkId = UUID
else:
    CustomerId, ProductId, PlanId = IdOf("cus"), IdOf("prod"), IdOf("plan")
    PlanVersionId, PriceId, DiscountId = IdOf("plv"), IdOf("price"), IdOf("disc")
    SubscriptionId, InvoiceId = IdOf("sub"), IdOf("inv")
    PaymentMethodId, WorkItemId = IdOf("pm"), IdOf("wrk")
    TaxRateId, TaxRuleId = IdOf("txr"), IdOf("tru")
    PlanMigrationId = IdOf("mig")
    PromotionCodeId, BatchId = IdOf("promo"), IdOf("batch")
    CreditNoteId, AdjustmentId = IdOf("cn"), IdOf("adj")
    ParkId = IdOf("park")
