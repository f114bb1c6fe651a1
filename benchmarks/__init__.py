"""The rendered project beside the tutorial's code: speed, and what each loses."""
