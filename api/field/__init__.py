"""What phones send from the field, often days later: who signs it, each record with its receipt, and what goes along.

The routes of the API below ``/field``. A record acts through the same functions as the other routes; the page of the
app itself is `api.pages.field`.
"""
