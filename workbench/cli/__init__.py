"""The command ``workbench``: every step of the workbench for a shell and for CI.

The words of a command line come in; cyclopts turns them into Python values, and each command calls the public
function of the room that does the work. Text or JSON goes to standard output, progress and errors go to standard
error, and the exit code says how it ended. Nobody imports this package.
"""
