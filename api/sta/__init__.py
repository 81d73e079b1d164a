"""OGC SensorThings API, reading: the registry and the readings as the entities of versions 1.1 and 2.0.

`model` maps our nouns to entities as data, `filters` and `geometry` answer ``$filter``, `options` reads the query,
`observations` reads the store page by page, `answers` writes entities, `routes` are the two addresses. The REST API of
our own stands in `api/routes`.
"""
