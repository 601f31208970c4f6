"""Where jobs run: in this process, in another one, or on another machine.

A job (a variant, a backend, batches, images) comes in; a report with an engine and its measurements goes out.
``host`` is the front, ``job`` the work itself, ``protocol`` what travels, ``transport`` the call of a worker.
"""
