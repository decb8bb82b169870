"""Random histories of a whole store, done to the product and to a model of it, and compared answer by answer."""
