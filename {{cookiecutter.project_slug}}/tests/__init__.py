"""The tests have settings and data of their own: they reach none of a developer's servers."""

import atexit
import os
import shutil
import tempfile

# Now, as importing the service opens its metrics, reads its settings and opens its data.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="service-tests-")

from {{ cookiecutter.project_slug }}.settings import Settings

folder = os.environ["PROMETHEUS_MULTIPROC_DIR"]
atexit.register(shutil.rmtree, folder, ignore_errors=True)
Settings.model_config["env_file"] = None
for name in list(os.environ):
    if name.lower() in Settings.model_fields:
        del os.environ[name]
os.environ["DATA_DIR"] = os.environ["SECRETS_DIR"] = folder
