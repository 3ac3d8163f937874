"""The report: plan, run the notebooks or take them from the cache, make the page."""

from kvt.report import startup as startup
