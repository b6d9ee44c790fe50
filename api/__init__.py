"""The HTTP face of the service: schemas, callers, problems, routes. No rule of the field lives here."""
