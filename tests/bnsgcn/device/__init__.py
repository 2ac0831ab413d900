"""Tests of devices, streams and staging."""
