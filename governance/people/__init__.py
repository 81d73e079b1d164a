"""People: accounts, appointments, tokens and sessions of browsers.

How people are reached is in ``governance.notify``, what roles may do in ``governance.organisation``. May import
``incidents``, for cases go over to successors.
"""
