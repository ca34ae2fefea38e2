"""What routes know of payers' pages."""

from __future__ import annotations

from dataclasses import dataclass

from subledger.services.payments.addresses import Addresses
from subledger.services.payments.usecases.returns import Returns


@dataclass(frozen=True, slots=True)
class Public:
    """The addresses of payers' pages, and where these may lead back to."""

    addresses: Addresses
    returns: Returns
