"""What is computed from the predictions for a split: numpy alone, without a trainer."""
