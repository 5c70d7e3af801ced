"""Feature drift: whether the rows that come are still like those that the model was trained on.

Made when a bundle is packed: a histogram a feature (``histograms``). Counted while it is served: rows by bin (``bins``) over the last
while (``window``), out of the way of the answers (``watch``). Compared when somebody asks: the population stability index
(``stability``).
"""
