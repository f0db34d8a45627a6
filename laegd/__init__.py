"""laegd: offloading plans with certified gaps for low-altitude networks."""
