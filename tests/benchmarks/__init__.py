"""The benchmarks, at toy size: that they run, and that what they compare is the same thing."""
