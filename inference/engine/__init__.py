"""The engine draws; it knows no NATS, no S3 and no protobuf."""
