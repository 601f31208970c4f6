"""Widgets and viewers for JupyterLab; nobody imports this package."""
