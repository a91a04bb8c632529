"""Who is owed for what was sold: earnings of suppliers, cost of providers, and payouts."""
