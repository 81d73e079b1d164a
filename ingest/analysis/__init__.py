"""What is computed from stored readings: live classes, forecasts, source attribution, backtests, chart annotations."""
