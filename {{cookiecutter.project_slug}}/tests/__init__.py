"""Importing the service opens its data: not a developer's own, but a folder of the tests."""

import os
import tempfile

os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="{{ cookiecutter.project_slug }}-")
