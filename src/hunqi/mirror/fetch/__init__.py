"""Downloads: one fetch per digest, any number of readers. Plain threads; used by the fetcher process alone."""
