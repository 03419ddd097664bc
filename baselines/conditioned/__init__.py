"""One network for all preferences: two methods, `pareto_set` and `weight_ensembling_moe`, their training and policy."""
