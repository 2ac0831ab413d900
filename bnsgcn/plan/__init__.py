"""What a run will cost, before it is run; the runtime never imports it."""
