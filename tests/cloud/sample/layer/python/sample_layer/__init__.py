"""A package that the sample functions get from their layer."""
