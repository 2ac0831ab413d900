"""`bnsgcn report`: what a run measured, on a page that says what a person would say who looked at it."""
