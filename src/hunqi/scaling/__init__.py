"""Elastic scaling: how many tasks a service has, by what is measured, by what is foretold and by the clock."""
