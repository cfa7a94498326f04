"""One absl binary per study; each ends in a report."""
