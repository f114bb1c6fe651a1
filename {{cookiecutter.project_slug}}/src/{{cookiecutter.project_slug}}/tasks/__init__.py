"""The background tasks; a module imported here is known wherever tasks run."""
{% if cookiecutter.__any_task %}

from . import {{ "email" if cookiecutter.include_email_task }}{{ ", " if cookiecutter.include_email_task and cookiecutter.include_log_task }}{{ "log" if cookiecutter.include_log_task }}

__all__ = [{{ '"email"' if cookiecutter.include_email_task }}{{ ", " if cookiecutter.include_email_task and cookiecutter.include_log_task }}{{ '"log"' if cookiecutter.include_log_task }}]
{% endif %}
