"""How the controller decides: policies, the commands they become, and reports on what came of them."""
