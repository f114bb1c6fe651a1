"""The tests have settings and data of their own: they reach none of a developer's servers."""

import atexit
import os
import shutil
import tempfile

from {{ cookiecutter.project_slug }}.settings import Settings

# Now, as importing the service reads its settings and opens its data.
Settings.model_config["env_file"] = None
for name in list(os.environ):
    if name.lower() in Settings.model_fields:
        del os.environ[name]
folder = tempfile.mkdtemp(prefix="{{ cookiecutter.project_slug }}-")
atexit.register(shutil.rmtree, folder, ignore_errors=True)
os.environ["DATA_DIR"] = os.environ["SECRETS_DIR"] = folder
