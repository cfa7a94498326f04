"""Pruning for groups of people, and pruning together with distillation."""
