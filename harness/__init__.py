"""What runs rendered projects."""

import os

# Between what runs here stands no proxy: the name that curl, urllib and httpx heed.
_given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
os.environ["no_proxy"] = f"{_given},127.0.0.1" if _given else "127.0.0.1"
