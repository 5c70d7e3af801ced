"""How fast it is: side by side with the peers, in one run, as ratios. Development only; no wheel holds it."""
