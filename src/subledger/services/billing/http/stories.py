"""The transactions of billing's routes; each name gives crash points, so they are few."""

from __future__ import annotations

from subledger.platform.db import story

READ = story("billing.read", reads=True)
SAVE_CUSTOMER = story("billing.save_customer")
SAVE_CATALOGUE = story("billing.save_catalogue")
SUBSCRIBE = story("billing.subscribe")
CHANGE_SUBSCRIPTION = story("billing.change_subscription")
FINALIZE_INVOICE = story("billing.finalize_invoice")
VOID_INVOICE = story("billing.void_invoice")
SAVE_CREDIT_NOTE = story("billing.save_credit_note")
CLOSE_WORK_ITEM = story("billing.close_work_item")
SET_REVENUE_POLICY = story("billing.set_revenue_policy")
SET_GUARD = story("billing.set_guard")
