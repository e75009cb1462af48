"""What the parts say of their work: logs, metrics, traces."""
