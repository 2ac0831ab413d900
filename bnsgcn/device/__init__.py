"""Which device a worker has, and what it does there beside computing: streams, events, pinned memory."""
