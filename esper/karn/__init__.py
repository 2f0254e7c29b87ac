"""Karn: the blueprints, each a real module design that can be grown at a site."""
