"""Is a candidate good enough? Two models on one data set, judged by the task's metric against a budget."""
