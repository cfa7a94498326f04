"""The parts of the deploy study."""
