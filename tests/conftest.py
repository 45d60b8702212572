"""Fixtures that any suite may use."""

pytest_plugins = ["tests.support.databases", "tests.support.deployments"]
