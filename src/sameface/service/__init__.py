"""The HTTP service: faces found, compared, named and enrolled from any program and from the browser."""
