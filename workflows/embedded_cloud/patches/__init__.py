"""Changes to moto; :mod:`.apply` applies them."""
