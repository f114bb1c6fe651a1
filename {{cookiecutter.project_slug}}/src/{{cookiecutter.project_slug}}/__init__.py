import atexit
import hashlib
import multiprocessing
import os
import shutil
import tempfile

# The processes of a service count together, in a folder that prometheus_client must know before
# anything imports it. It is named after a secret that they alone share.
if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    _secret = hashlib.sha256(multiprocessing.current_process().authkey).hexdigest()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = _folder = f"{tempfile.gettempdir()}/metrics-{_secret}"
    os.makedirs(_folder, mode=0o700, exist_ok=True)
    if not multiprocessing.parent_process():
        atexit.register(shutil.rmtree, _folder, ignore_errors=True)
