"""What leaves this package: a run's best model in forms that others load. One file a form."""
