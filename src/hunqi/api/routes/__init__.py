"""The routes, by subject; each module's ``routes`` makes a router that guards every one of them."""
