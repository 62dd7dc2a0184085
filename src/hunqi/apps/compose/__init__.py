"""The compiler from the Compose specification to an app spec; each key that is not honoured is named."""
