"""Money that comes in by card, through Stripe: top-ups, recharges, post-paid accounts, invoices."""
