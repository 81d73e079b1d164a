"""Messages to people, and deliveries of events to a platform.

Messages: ``planning`` (what, to whom), ``policy`` (when), ``wording`` (in which words), ``links`` are pure;
``messenger`` enqueues and sends, ``store`` and ``tables`` keep. Deliveries: ``outbox``. Contacts and shifts:
``contacts``, ``person_contacts``, ``oncall``. May import ``incidents`` and ``people``; nothing below imports it.
"""
