"""What thinking looks like in tokens, and how a request controls it: formats, budgets, and budget forcing."""

from s1ray.thinking.accounting import account, account_unforced
from s1ray.thinking.budget import ThinkingBudget
from s1ray.thinking.counts import Accounting
from s1ray.thinking.forcer import BudgetForcer
from s1ray.thinking.format import ThinkingFormat, TokenizedFormat
from s1ray.thinking.plan import ForcingPlan, make_plan

__all__ = [
    "Accounting",
    "BudgetForcer",
    "ForcingPlan",
    "ThinkingBudget",
    "ThinkingFormat",
    "TokenizedFormat",
    "account",
    "account_unforced",
    "make_plan",
]
