"""A study: several configs trained with several seeds, compared on one page."""
