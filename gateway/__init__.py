"""The gateway: makes each request durable, hands it to workers, and tells clients what becomes of it."""
