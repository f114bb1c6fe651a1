from . import metrics as metrics  # first: it decides where every metric is kept
