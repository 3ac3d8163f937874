"""The report, in one direction: plan → run, or take from the cache → page.

`build` goes through all of it. `plan` settles each notebook's parameters, `run` gives
the notebooks to `workers`, `execute` runs one of them, `cache` keeps finished runs,
`merge` and `render` make one HTML page of the executed notebooks, and `pdf` prints it.
"""
