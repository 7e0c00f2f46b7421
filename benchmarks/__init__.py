"""Speed, measured as ratios within one run; each script prints JSON lines."""
