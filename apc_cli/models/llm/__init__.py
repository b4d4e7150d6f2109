"""A large language model behind an API: asked, priced, journaled, parsed."""
