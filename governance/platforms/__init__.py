"""External platforms: their vocabulary (``model``, pure), signed callbacks, and the comparison of both lists.

Sending events to a platform is in ``governance.notify.outbox``. Nothing in governance imports this package.
"""
