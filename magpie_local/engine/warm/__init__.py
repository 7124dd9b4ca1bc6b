"""Warm starts: templates, forks of them, and a pool of forks that wait for a job.

shelf    templates on disk: whole or not there, checked before use, evicted when the disk budget is used up
wishes   shapes that somebody wants a template of, durable
maker    boots a VM, exercises it, freezes it: a template
pool     forks, settled, exercised and paused
policy   what to do next, as pure functions
warmer   does it, in the leader, behind the jobs
"""

from __future__ import annotations
