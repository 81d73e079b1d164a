"""Commands on tables, without a site: formats, ``assess`` and ``classify`` (`riverchief.cli`, `tools`)."""
