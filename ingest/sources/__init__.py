"""Where messages come from. Every source hands over to the intake and acknowledges only what is durable."""
