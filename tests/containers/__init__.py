"""What our images and compose.yaml say, read and done without an engine."""
