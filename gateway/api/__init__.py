"""The gateway's gRPC face."""
