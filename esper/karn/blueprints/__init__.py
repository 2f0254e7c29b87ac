"""One file a blueprint; `esper.karn.catalogue` lists them."""
