"""Fewer numbers: saliencies, masks, schedules, and channels that really go."""
