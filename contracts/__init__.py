"""What is said: messages, enums, budgets and configuration, with no machinery behind them."""
