"""A worker: answers clients from the store, follows fetches, takes pushes. It never talks to a source."""
