# `make help` lists what there is.
