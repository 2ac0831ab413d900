"""Trackers that are asked for by name: CSV, TensorBoard, MLflow, Weights & Biases; none imported unasked."""
