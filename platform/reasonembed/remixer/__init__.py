"""ReMixer: training data that is not trivial. Every stage is a function of rows; ``distributed/`` runs them on Ray."""
