"""What one worker holds: blocks of its part, and who sends which boundary rows to whom."""
