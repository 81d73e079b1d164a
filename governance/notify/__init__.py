"""Messages to people and deliveries to platforms: policy and contacts (pure), outbox, channels, on-call, messenger."""
