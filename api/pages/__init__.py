"""Server-rendered pages: a page is an address with all its state, a template, and fragments that are fetched anew.

One file a page reads what the page shows (a model) and renders its template. `view` holds what all pages share,
`live` announces which fragments changed, `assets` serves the built scripts and style sheets. Nothing here changes
data except through the functions that the API's routes use too. Imported by the application alone.
"""
