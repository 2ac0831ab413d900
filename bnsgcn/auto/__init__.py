"""The policy that chooses itself: what is measured, what each choice costs, which one is taken, and why."""
