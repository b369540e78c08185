"""The method's arithmetic as pure functions of arrays: no modules, no parameters, no hidden randomness."""
